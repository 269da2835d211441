package realtime

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/objects"
	"lockstep/server/histogram"
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
	sdks                  *sdks
	framed, written       prometheus.Observer
	waiting               prometheus.Observer
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
	events := prometheus.NewHistogramVec(histogram.Seconds("lockstep_event_stage_seconds",
		"Time of the stages of an event after it was applied: framed, once for a round, until it is in the queues of all subscribers; written, of every sixteenth write, from when something waits for a client until its socket has it.",
	), []string{"stage"})
	waiting := prometheus.NewHistogram(histogram.Bytes("lockstep_client_queue_bytes", "Bytes that still wait for a client after a write to it; of every sixteenth write."))
	m.sdks, m.framed, m.written, m.waiting = newSDKs(), events.WithLabelValues("framed"), events.WithLabelValues("written"), waiting
	for _, outcome := range []string{"current", "replayed"} { // a rate needs a zero to begin with
		m.outcomes.WithLabelValues(outcome)
	}
	for _, what := range []string{"connects", "sessions", "sessions of identity", "sessions of source", "request bytes", "requests"} {
		m.refusals.WithLabelValues(what)
	}
	m.sdks.of(otherSDK)
	closed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_sessions_closed_total", Help: "Realtime connections that ended, by reason: client and lost are those that the client or the network ended.",
	}, []string{"reason"})
	for why, row := range endings {
		m.endings[why] = closed.WithLabelValues(row.reason)
	}
	if r != nil {
		r.MustRegister(m.sessions, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_subscriptions", Help: "Subscriptions of all sessions.",
		}, subscriptions), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lockstep_live_queries", Help: "Different live queries.",
		}, liveQueries), m.outcomes, m.replayed, m.behind, m.dropped, m.slow, m.evaluated, m.lagged, closed, m.refusals, m.sdks.gauges, events, waiting)
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
