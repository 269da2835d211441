// Package migrate copies services, objects, items and permissions into a cluster: from
// a file, or from another installation of the same REST API (Twilio's, or another
// cluster's), which it can follow until clients are switched over.
//
// The source is read as any client reads it. The cluster takes records by its
// operators' API, as they are, and to do so twice is like doing it once: whatever is
// in doubt is done again.
//
// Import and Mirror start as many goroutines as they may have requests under way, and
// return when all have ended.
package migrate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Waits between tries.
const (
	soon = 500 * time.Millisecond
	long = 30 * time.Second
)

// persist repeats what fails for a while, until it says that there is no point in it,
// by 0. Waits become longer from what it says on.
func persist(ctx context.Context, patience time.Duration, try func() (wait time.Duration, err error)) error {
	end := time.Now().Add(patience)
	for factor := time.Duration(1); ; factor = min(2*factor, 64) {
		wait, err := try()
		if err == nil || wait == 0 {
			return err
		}
		wait = max(wait, min(soon*factor, long))
		wait += time.Duration(rand.Int64N(int64(wait/8) + 1)) // others wait, too
		if time.Now().Add(wait).After(end) {
			return fmt.Errorf("given up after %s: %w", patience, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}
