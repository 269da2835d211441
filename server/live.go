package server

import (
	"net/netip"
	"sync/atomic"

	"lockstep/server/limits"
)

// Live are the settings that can be changed while the node runs. They must be valid
// (Config.Validate).
type Live struct {
	RateLimits   limits.Rates
	WebhookAllow []netip.Prefix
	TLS          TLS
}

// live is what holds them.
type live struct {
	limits *limits.Limits
	now    atomic.Pointer[Live]
}

func newLive(c Config) *live {
	l := &live{limits: limits.New(c.RateLimits, c.Clock)}
	l.now.Store(&Live{RateLimits: c.RateLimits, WebhookAllow: c.WebhookAllow, TLS: c.TLS})
	return l
}

func (l *live) webhookAllow() []netip.Prefix { return l.now.Load().WebhookAllow }

// Change sets what can change while the node runs. What has to do with the rates and
// stays as it was until a restart is logged.
func (s *Server) Change(to Live) {
	switch {
	case s.files != nil && to.TLS.on():
		if err := s.files.Use(to.TLS.Cert, to.TLS.Key); err != nil {
			s.log.Error("the certificate before is kept", "error", err)
		}
	case s.files != nil || to.TLS.on():
		s.log.Warn("serving with TLS in the place of without, or without in its place, takes a restart", "setting", "tls-cert")
	}
	from := s.live.now.Swap(&to)
	s.live.limits.Change(to.RateLimits)
	if from.RateLimits.Requests != to.RateLimits.Requests || from.RateLimits.Burst != to.RateLimits.Burst {
		s.log.Warn("the rate and the burst of realtime connections' requests take a restart", "setting", "rate-limits")
	}
	if (from.RateLimits == limits.Off()) != (to.RateLimits == limits.Off()) {
		s.log.Warn("the limits that rate-limits=off lifts take a restart", "setting", "rate-limits")
	}
}
