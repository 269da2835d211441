package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressInterval is how often progress is shown.
const progressInterval = 100 * time.Millisecond

// newProgress shows on a terminal, and nowhere else, how much of so many bytes has
// been written to it; total is -1 where that is not known. Finish takes it away again.
func newProgress(out io.Writer, what string, total int64) *progressbar.ProgressBar {
	if !isTerminal(out) {
		out = io.Discard
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(progressInterval), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30),
	)
}

// newCounter shows likewise how many records were done.
func newCounter(out io.Writer, what string) *progressbar.ProgressBar {
	if !isTerminal(out) {
		out = io.Discard
	}
	return progressbar.NewOptions64(-1,
		progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what), progressbar.OptionShowIts(), progressbar.OptionShowCount(),
		progressbar.OptionSetItsString("records"), progressbar.OptionThrottle(progressInterval), progressbar.OptionClearOnFinish(),
	)
}

// newCatchUp shows likewise how far a node has come that catches up.
func newCatchUp(out io.Writer) *progressbar.ProgressBar {
	if !isTerminal(out) {
		out = io.Discard
	}
	return progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(out), progressbar.OptionSetDescription("catching up, log index"), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(progressInterval), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30),
	)
}
