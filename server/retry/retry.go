// Package retry is the one way in which this program tries again what failed, or
// looks again whether something has happened: less and less often, and at moments
// left to chance, so that those who failed together do not come back together.
//
// It runs on its caller's goroutine.
package retry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pause after the first try, about, and the longest one. A person may wait for
// what is tried, so the longest is short; half a second of a node that is down
// costs its peers nothing.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// Until calls try until it returns nil or an error made by Final, or ctx ends.
// Then it returns the last error of try, together with the reason for ctx's end.
// It calls try at least once.
func Until(ctx context.Context, try func() error) error {
	var last error
	pauses := backoff.NewExponentialBackOff() // each pause is up to a half longer or shorter
	pauses.InitialInterval, pauses.MaxInterval = firstPause, longestPause
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		last = try()
		return struct{}{}, last
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	_, final := errors.AsType[*backoff.PermanentError](last)
	switch end := context.Cause(ctx); {
	case err == nil, end == nil, final:
		return err
	case errors.Is(last, end):
		return last
	default:
		return fmt.Errorf("%w (%w)", last, end)
	}
}

// Final marks an error after which Until does not try again. Until returns the
// error itself.
func Final(err error) error { return backoff.Permanent(err) }
