package peer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"lockstep/cmd/lockstep/bench/internal/report"
)

// probeGap is how long after one attempt to write the next one begins, and
// probeLimit how long is tried.
const (
	probeGap   = 10 * time.Millisecond
	probeLimit = 20 * time.Second
)

// Outage kills, and tries to write until an attempt that began afterwards succeeds.
// It returns how long that took. Attempts do not wait for each other.
func Outage(ctx context.Context, kill func() error, attempt func(ctx context.Context, n int) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	if err := kill(); err != nil {
		return 0, err
	}
	begin := time.Now()
	won := make(chan time.Duration, 1)
	var last error
	var mu sync.Mutex
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	ticker := time.NewTicker(probeGap)
	defer ticker.Stop()
	for n := 0; ; n++ {
		attempts.Go(func() {
			err := attempt(ctx, n)
			if err == nil {
				select {
				case won <- time.Since(begin):
				default:
				}
				return
			}
			mu.Lock()
			last = err
			mu.Unlock()
		})
		select {
		case d := <-won:
			return d, nil
		case <-ctx.Done():
			mu.Lock()
			defer mu.Unlock()
			return 0, fmt.Errorf("no write succeeded in %v: %w", probeLimit, last)
		case <-ticker.C:
		}
	}
}

// Outages sums up outages.
func Outages(all []time.Duration) report.Metrics {
	figures := make([]float64, len(all))
	for i, d := range all {
		figures[i] = Millis(d)
	}
	s := report.Sum(figures)
	return report.Metrics{report.Millis: s.Median, report.Worst: s.Max}
}
