// Package panics keeps a fault in one client's work from ending the node: what
// panics is caught where that client's work begins, logged with its stack, and
// counted.
//
// It is for work on behalf of one client, whose end harms nobody else. A panic
// in what all share, such as applying the log, is not caught: nobody knows what
// state it left.
package panics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Catcher catches panics. All its methods may be called on a nil Catcher, which
// does not log and does not count.
type Catcher struct {
	logger *slog.Logger
	caught *prometheus.CounterVec
}

// New returns a Catcher that registers its metric with r, which may be nil.
func New(logger *slog.Logger, r prometheus.Registerer) *Catcher {
	c := &Catcher{logger: logger, caught: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_panics_total", Help: "Panics that ended one client's work, by where.",
	}, []string{"where"})}
	for _, where := range []string{"session", "request", "rest request", "writer", "webhook"} {
		c.caught.WithLabelValues(where) // a rate needs a zero to begin with
	}
	if r != nil {
		r.MustRegister(c.caught)
	}
	return c
}

// Catch is to be deferred. If the goroutine panics, it ends that, tells of it
// and calls then, unless that is nil, with what it was.
func (c *Catcher) Catch(where string, then func(error)) {
	fault := recover()
	switch fault {
	case nil:
		return
	case http.ErrAbortHandler:
		panic(fault) // that is how a handler has net/http cut a connection
	}
	if c != nil {
		c.caught.WithLabelValues(where).Inc()
		c.logger.Error("panic", "where", where, "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
	}
	if then != nil {
		then(fmt.Errorf("panic in %s: %v", where, fault))
	}
}
