// Package audit writes the lines of the log that say who changed what an
// operator answers for: credentials, members, services, permissions; and who
// was turned away. Each has audit=true, the actor, and the address that he came
// from, whatever the level of the log.
//
// The package keeps nothing and starts no goroutine. That a failure to log is
// not told is the nature of logs.
package audit

import (
	"log/slog"
	"net/http"
	"net/netip"

	"lockstep/server/source"
)

// Log is an audit log. The zero value writes nothing.
type Log struct{ logger *slog.Logger }

// New returns the audit log that writes to a logger.
func New(logger *slog.Logger) Log { return Log{logger.With("audit", true)} }

// Actor is who did something.
type Actor struct {
	Name   string // the SID of the account or of an API key
	Source string // the address that he came from
}

// Record writes one line: what happened, by whom, and details as alternating
// names and values. No secret is one of them.
func (l Log) Record(what string, by Actor, details ...any) {
	if l.logger != nil {
		l.logger.Info(what, append([]any{"actor", by.Name, "source", by.Source}, details...)...)
	}
}

// Warn is Record for what is somebody's attempt and not a change.
func (l Log) Warn(what string, details ...any) {
	if l.logger != nil {
		l.logger.Warn(what, details...)
	}
}

// Source returns the address that a request came from: that of its connection,
// or, from a trusted proxy, what the proxy says of its own peer.
func Source(r *http.Request, proxies []netip.Prefix) string {
	if addr := source.Address(r, proxies); addr.IsValid() {
		return addr.String()
	}
	return r.RemoteAddr
}
