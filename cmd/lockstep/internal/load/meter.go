package load

import (
	"bytes"
	"context"
	"strconv"
	"sync/atomic"
	"time"
)

// Meter counts what subscribers hear of stamped messages, and how late. Any number
// of goroutines may use it.
type Meter struct {
	Delay Histogram

	heard   atomic.Int64
	limited atomic.Int64 // publications that a rate limit refused
	failed  atomic.Int64 // and those that were refused otherwise
	first   atomic.Pointer[string]
}

const (
	mark   = "@at="
	digits = 19 // of the time in nanoseconds, until the year 2286
)

// Stamped returns a text of so many bytes that tells when it was made. It needs no
// escaping in JSON.
func Stamped(size int) []byte {
	b := append(make([]byte, 0, size), mark...)
	b = strconv.AppendInt(b, time.Now().UnixNano(), 10)
	b = append(b, '@')
	for len(b) < size {
		b = append(b, 'x')
	}
	return b
}

// Hear counts the stamps in what a subscriber heard, and returns how many.
func (m *Meter) Hear(message []byte) (stamps int64) {
	now := time.Now().UnixNano()
	for {
		i := bytes.Index(message, []byte(mark))
		if i < 0 || len(message) < i+len(mark)+digits {
			break
		}
		message = message[i+len(mark):]
		var at int64
		for _, c := range message[:digits] {
			at = at*10 + int64(c-'0')
		}
		m.Delay.Add(time.Duration(now - at))
		stamps++
	}
	if stamps > 0 {
		m.heard.Add(stamps)
	}
	return stamps
}

// Note counts a publication that was refused.
func (m *Meter) Note(err error) {
	switch {
	case err == nil:
	case limited(err):
		m.limited.Add(1)
	default:
		text := err.Error()
		m.first.CompareAndSwap(nil, &text)
		m.failed.Add(1)
	}
}

func (m *Meter) refused() int64 { return m.limited.Load() + m.failed.Load() }

// Fanout publishes, and has a meter count what is heard.
type Fanout struct {
	Meter         *Meter
	Each          int               // subscribers that hear each publication
	Window        int               // publications under way at most, that not all have heard; zero: any number
	Rate          float64           // publications a second at most; zero: as many as go
	Publish       func(n int) error // sends one, with a stamp. Who is refused later calls Meter.Note
	Warm, Measure time.Duration

	Began, Ended func()
	Progress     *atomic.Int64 // follows what is heard; may be nil
}

// patience is how long a publisher waits for what does not come, before it counts
// as lost: streams deliver at most once.
const patience = 3 * time.Second

// Run publishes for the time of warming up and of measuring. The operations of the
// result are deliveries, its latency the time from publishing to hearing, and what
// failed includes deliveries that did not come.
func (f Fanout) Run(ctx context.Context) (Result, error) {
	p := publisher{Fanout: f, heard: f.Meter.heard.Load(), refused: f.Meter.refused()}
	if err := p.until(ctx, f.Warm); err != nil {
		return Result{}, err
	}
	p.settle(ctx)
	f.Meter.Delay.Reset()
	limited, failed, heard, lost := f.Meter.limited.Load(), f.Meter.failed.Load(), f.Meter.heard.Load(), p.lost
	call(f.Began)
	begin := time.Now()
	if err := p.until(ctx, f.Measure); err != nil {
		return Result{}, err
	}
	elapsed := time.Since(begin)
	done := f.Meter.heard.Load() - heard
	call(f.Ended)
	p.settle(ctx)
	r := Result{
		Operations: done, Limited: f.Meter.limited.Load() - limited, Elapsed: elapsed, Latency: f.Meter.Delay.Summary(),
		Failed: f.Meter.failed.Load() - failed + p.lost - lost,
	}
	if text := f.Meter.first.Load(); text != nil {
		r.FirstError = *text
	} else if p.lost > lost {
		r.FirstError = "deliveries that did not come"
	}
	return r, ctx.Err()
}

type publisher struct {
	Fanout
	sent           int64
	lost           int64 // deliveries that are no longer waited for
	heard, refused int64 // at the beginning
}

// until publishes for so long.
func (p *publisher) until(ctx context.Context, d time.Duration) error {
	begin := time.Now()
	due := begin
	for ctx.Err() == nil && time.Since(begin) < d {
		refused := p.Meter.refused()
		if p.Rate > 0 {
			due = due.Add(time.Duration(float64(time.Second) / p.Rate))
			sleep(ctx, time.Until(due))
		}
		if p.Window > 0 {
			p.await(ctx, int64(p.Window-1)*int64(p.Each))
		}
		if p.Meter.refused() > refused {
			sleep(ctx, limitedPause)
		}
		if time.Since(begin) >= d { // it has waited for long
			return nil
		}
		if err := p.Publish(int(p.sent)); err != nil {
			return err
		}
		p.sent++
		if p.Progress != nil {
			p.Progress.Store(p.Meter.heard.Load())
		}
	}
	return nil
}

// missing returns how many deliveries are still to come.
func (p *publisher) missing() int64 {
	accepted := p.sent - (p.Meter.refused() - p.refused)
	return accepted*int64(p.Each) - (p.Meter.heard.Load() - p.heard) - p.lost
}

// await waits until no more than so many deliveries are to come, or until none has
// come for a while: then those that are to come count as lost.
func (p *publisher) await(ctx context.Context, most int64) {
	last, since := p.missing(), time.Now()
	for ctx.Err() == nil {
		now := p.missing()
		switch {
		case now <= most:
			return
		case now != last:
			last, since = now, time.Now()
		case time.Since(since) > patience:
			p.lost += now
			return
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// settle waits for all that is to come.
func (p *publisher) settle(ctx context.Context) { p.await(ctx, 0) }
