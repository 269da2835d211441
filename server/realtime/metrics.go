package realtime

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/objects"
)

// metrics of a Server. The names that exist are promises to dashboards.
type metrics struct {
	sessions              prometheus.Gauge
	outcomes              *prometheus.CounterVec
	replayed              prometheus.Counter
	behind, dropped, slow prometheus.Counter
	evaluated, lagged     prometheus.Counter
	endings               [len(endings)]prometheus.Counter
	refusals              *prometheus.CounterVec
}

// newMetrics registers the metrics with r, which may be nil. subscriptions
// counts those that there are, liveQueries the different ones of these.
func newMetrics(r prometheus.Registerer, subscriptions, liveQueries func() float64) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "lockstep_sessions", Help: "Connected realtime sessions."}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_subscriptions_established_total",
			Help: "Outcomes of subscription requests: replayed, current (nothing to replay), or the status of the refusal.",
		}, []string{"outcome"}),
		replayed:  counter("lockstep_events_replayed_total", "Events replayed to subscriptions."),
		behind:    counter("lockstep_subscriptions_behind_total", "Subscriptions that lost their place and caught up from the state."),
		dropped:   counter("lockstep_stream_messages_dropped_total", "Stream messages that a slow client lost."),
		slow:      counter("lockstep_sessions_slow_closed_total", "Sessions closed because the client took too little."),
		evaluated: counter("lockstep_query_evaluations_total", "Items that were compared with a query."),
		lagged:    counter("lockstep_live_queries_behind_total", "Times that the live queries over a map lost their place and caught up from the state."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_sessions_refused_total", Help: "What was refused because there was too much of it, by what.",
		}, []string{"what"}),
	}
	closed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_sessions_closed_total", Help: "Realtime connections that the server ended, by reason.",
	}, []string{"reason"})
	for why, row := range endings {
		m.endings[why] = closed.WithLabelValues(row.reason)
	}
	if r != nil {
		r.MustRegister(m.sessions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_subscriptions", Help: "Subscriptions of all sessions.",
		}, subscriptions), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_live_queries", Help: "Different live queries.",
		}, liveQueries), m.outcomes, m.replayed, m.behind, m.dropped, m.slow, m.evaluated, m.lagged, closed, m.refusals)
	}
	return m
}

// established counts a subscription that is live for the first time.
func (m *metrics) established(events int) {
	outcome := "current"
	if events > 0 {
		outcome = "replayed"
	}
	m.outcomes.WithLabelValues(outcome).Inc()
}

// refused counts a subscription that never was live.
func (m *metrics) refused(why *objects.Error) {
	m.outcomes.WithLabelValues(strconv.Itoa(why.Status)).Inc()
}
