package peer

import (
	"context"
	"sync/atomic"
	"time"

	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

// Watch measures how late the one subscriber of each of many objects hears of a
// write to it.
type Watch struct {
	meter   load.Meter
	objects []watched
	acked   load.Histogram // from being acknowledged to being heard
	answer  load.Histogram // from being written to being acknowledged
}

// watched is when the newest write to an object was acknowledged and heard, in
// nanoseconds; zero: not yet. Whoever comes second counts.
type watched struct{ acknowledged, heard atomic.Int64 }

// NewWatch returns a Watch of n objects.
func NewWatch(n int) *Watch { return &Watch{objects: make([]watched, n)} }

// Hear takes what the i-th subscriber heard, and returns how many changes that was.
func (w *Watch) Hear(i int, message []byte) int64 {
	changes := w.meter.Hear(message)
	if changes > 0 {
		o, now := &w.objects[i], time.Now().UnixNano()
		o.heard.Store(now)
		w.count(o)
	}
	return changes
}

// count counts a write that was both acknowledged and heard. Who hears of it before
// it is acknowledged waits for nothing.
func (w *Watch) count(o *watched) {
	acknowledged, heard := o.acknowledged.Load(), o.heard.Load()
	if acknowledged != 0 && heard != 0 && o.acknowledged.CompareAndSwap(acknowledged, 0) {
		o.heard.Store(0)
		w.acked.Add(time.Duration(heard - acknowledged))
	}
}

// writers is how many write at a time, and watchRate how much they write together
// in a second: little enough that nothing queues.
const (
	writers   = 8
	watchRate = 500
)

// Run has each object written in turn, with write.
func (w *Watch) Run(ctx context.Context, o Options, pids []int, write func(ctx context.Context, i int, data []byte) error) (report.Metrics, error) {
	due := make(chan int, writers)
	work, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { // ends with work
		done <- load.Parallel(work, writers, writers, func(ctx context.Context, _ int) error {
			for {
				select {
				case i := <-due:
					object := &w.objects[i]
					begin := time.Now()
					if err := write(ctx, i, load.Stamped(load.Size)); err != nil {
						w.meter.Note(err)
						continue
					}
					w.answer.Add(time.Since(begin))
					object.acknowledged.Store(time.Now().UnixNano())
					w.count(object)
				case <-ctx.Done():
					return nil
				}
			}
		})
	}()
	u := usage{pids: pids}
	f := load.Fanout{
		Meter: &w.meter, Each: 1, Rate: watchRate, Warm: o.Warm, Measure: o.Measure, Ended: u.ended,
		Began: func() { w.acked.Reset(); w.answer.Reset(); u.began() },
		Publish: func(n int) error {
			select {
			case due <- n % len(w.objects):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
	r, err := f.Run(ctx)
	stop()
	<-done // it ends because of stop, which is no fault
	if err != nil {
		return nil, err
	}
	if u.err != nil {
		return nil, u.err
	}
	m, err := u.metrics(r)
	if err != nil {
		return nil, err
	}
	m["acked_p50_ms"], m["ack_p50_ms"] = millis(w.acked.Summary().P50), millis(w.answer.Summary().P50)
	return m, nil
}
