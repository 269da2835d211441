// Package loglimit keeps those who can cause log lines at will, such as
// strangers on a port, from filling the log: of each kind of line one a second
// is written, with the number of those that were left out.
//
// A line's kind is its level and message; attributes do not count. So messages
// must be constant, and what varies belongs into attributes. Lines of libraries
// that know no attributes go through Lines, which takes them apart.
//
// The package starts no goroutine: what was left out is told by the next line of
// the same kind.
package loglimit

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// interval is the time between two lines of a kind.
	interval = time.Second
	// maxKinds bounds how many kinds are told apart. What exceeds it shares one.
	maxKinds = 256
	// LeftOut is the attribute with the number of lines left out before this one.
	LeftOut = "left_out"
)

// New returns a logger that writes to the same place as to, at most one line a
// second of each kind.
func New(to *slog.Logger) *slog.Logger {
	return slog.New(&handler{next: to.Handler(), kinds: &kinds{now: time.Now, seen: make(map[kind]*record)}})
}

// Lines returns a standard logger whose lines go to a limited logger. Their kind
// is how they begin, up to the first digit or punctuation, with which what
// varies (an address, the reason) begins.
func Lines(to *slog.Logger, level slog.Level) *log.Logger {
	return log.New(lines{New(to), level}, "", 0)
}

// Kind returns what kind of line a library's line is: its own name, which comes
// first ("http: "), and the beginning of what it says.
func Kind(line string) string {
	line = strings.TrimSpace(line)
	said := line
	if library, rest, found := strings.Cut(line, ": "); found && !strings.ContainsAny(library, " \t") {
		said = rest
	}
	if end := strings.IndexAny(said, "0123456789:=\"'`([{<,;\n"); end >= 0 {
		line = line[:len(line)-len(said)+end]
	}
	return strings.TrimSpace(line)
}

type lines struct {
	to    *slog.Logger
	level slog.Level
}

// Write implements io.Writer.
func (l lines) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	l.to.Log(context.Background(), l.level, Kind(text), "line", text)
	return len(line), nil
}

// handler implements slog.Handler. Those made of one by WithAttrs and WithGroup
// share its limits.
type handler struct {
	next  slog.Handler
	kinds *kinds
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	leftOut, pass := h.kinds.pass(kind{r.Level, r.Message})
	if !pass {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Uint64(LeftOut, leftOut))
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.next.WithAttrs(attrs), h.kinds}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.next.WithGroup(name), h.kinds}
}

type kind struct {
	level   slog.Level
	message string
}

// kinds is what was written of each kind.
type kinds struct {
	now func() time.Time

	mu   sync.Mutex
	seen map[kind]*record
}

type record struct {
	written time.Time
	leftOut uint64
}

// pass reports whether a line may be written, and how many were left out since
// the last one of its kind.
func (k *kinds) pass(of kind) (leftOut uint64, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	r := k.seen[of]
	if r == nil {
		if len(k.seen) >= maxKinds {
			of = kind{}
			r = k.seen[of]
		}
		if r == nil {
			r = new(record)
			k.seen[of] = r
		}
	}
	if !r.written.IsZero() && now.Sub(r.written) < interval {
		r.leftOut++
		return 0, false
	}
	leftOut, r.leftOut = r.leftOut, 0
	r.written = now
	return leftOut, true
}
