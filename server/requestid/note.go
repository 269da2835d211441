package requestid

import (
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/origin"
)

// Note writes a line for a request, where the log has lines for debugging. It names the
// path as it came, and no parameters: they may be data.
func Note(l *slog.Logger, r *http.Request, id ID, status int, refused *objects.Error, took time.Duration, trusted []netip.Prefix) {
	if !l.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	code := 0
	if refused != nil {
		code = refused.Code
	}
	l.Debug("request", "request", id.String(), "method", r.Method, "path", origin.RawPath(r.URL), "status", status, "code", code,
		"took", took, "source", audit.Source(r, trusted))
}
