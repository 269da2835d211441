package realtime

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sessions, subscriptions prometheus.Gauge
	established             *prometheus.CounterVec
	replayed                prometheus.Counter
	behind, dropped, slow   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		sessions:      gauge("lockstep_sessions", "Connected realtime sessions."),
		subscriptions: gauge("lockstep_subscriptions", "Subscriptions of all sessions."),
		established: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_subscriptions_established_total",
			Help: "Outcomes of subscription requests: replayed, current (nothing to replay), or the status of the refusal.",
		}, []string{"outcome"}),
		replayed: counter("lockstep_events_replayed_total", "Events replayed to subscriptions."),
		behind:   counter("lockstep_subscriptions_behind_total", "Subscriptions that lost their place and caught up from the state."),
		dropped:  counter("lockstep_stream_messages_dropped_total", "Stream messages that a slow client lost."),
		slow:     counter("lockstep_sessions_slow_closed_total", "Sessions closed because the client took nothing."),
	}
	if r != nil {
		r.MustRegister(m.sessions, m.subscriptions, m.established, m.replayed, m.behind, m.dropped, m.slow)
	}
	return m
}

// resubscribed counts what a subscription request got.
func (m *metrics) resubscribed(outcome string, events int) {
	if outcome == "completed" {
		outcome = "current"
		if events > 0 {
			outcome = "replayed"
		}
	}
	m.established.WithLabelValues(outcome).Inc()
	m.replayed.Add(float64(events))
}
