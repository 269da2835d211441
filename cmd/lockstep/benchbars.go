package main

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"lockstep/cmd/lockstep/internal/load"
)

// newBenchProgress returns bars on a terminal, and nothing elsewhere.
func newBenchProgress(out io.Writer) load.Progress {
	if !isTerminal(out) {
		return noProgress{}
	}
	return bars{out}
}

type noProgress struct{}

func (noProgress) Count(string, int, *atomic.Int64) func()          { return func() {} }
func (noProgress) Time(string, time.Duration, *atomic.Int64) func() { return func() {} }

// bars draws a bar for each step, in the place of the one before.
type bars struct{ out io.Writer }

func (b bars) Count(what string, of int, done *atomic.Int64) func() {
	return b.step(int64(of), progressbar.OptionShowCount(), func() (int64, string) { return min(done.Load(), int64(of)), what })
}

func (b bars) Time(what string, length time.Duration, operations *atomic.Int64) func() {
	begin := time.Now()
	return b.step(length.Milliseconds(), progressbar.OptionSetPredictTime(true), func() (int64, string) {
		return min(time.Since(begin), length).Milliseconds(), fmt.Sprintf("%s: %d", what, operations.Load())
	})
}

// step draws until the function that it returns is called, which waits for the end
// of the goroutine that draws.
func (b bars) step(of int64, option progressbar.Option, state func() (done int64, what string)) func() {
	bar := progressbar.NewOptions64(of, progressbar.OptionSetWriter(b.out), progressbar.OptionSetWidth(30), option)
	over := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			done, what := state()
			bar.Describe(what)
			_ = bar.Set64(done) // a terminal that is gone ends the program by itself
			select {
			case <-tick.C:
			case <-over:
				_ = bar.Clear()
				return
			}
		}
	})
	return func() {
		close(over)
		drawing.Wait()
	}
}
