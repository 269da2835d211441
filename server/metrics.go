package server

import (
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/console"
	"lockstep/server/durablestreams"
	"lockstep/server/histogram"
	"lockstep/server/panics"
)

// metrics are those of the node as a whole. Other packages register their own
// with the same registry.
//
// What happens for each request is observed once for each, which is some 70 ns and
// allocates nothing; the stages of a write are observed once for each log entry,
// and writes to sockets by samples.
type metrics struct {
	registry *prometheus.Registry
	writes   *prometheus.HistogramVec
	reads    *prometheus.HistogramVec
	panics   *panics.Catcher

	writeMeter, readMeter console.Meter // for people who look on

	written, found prometheus.Observer // writes and reads that were done, as nearly all are
	cluster        [cluster.Measures]prometheus.Observer

	rest, realtime       requests
	durable              requests // durable streams, and objects' events
	shedWrites, shedRead prometheus.Counter
}

// requests are those of one protocol.
type requests struct {
	read, write prometheus.Observer
	refused     *prometheus.CounterVec // by code
}

func newMetrics(logger *slog.Logger) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		writes: prometheus.NewHistogramVec(histogram.Seconds(
			"lockstep_write_seconds", "Time from a write's proposal on this node to its result, by outcome."), []string{"outcome"}),
		reads: prometheus.NewHistogramVec(histogram.Seconds(
			"lockstep_read_seconds", "Time that linearizable reads wait on this node, by outcome."), []string{"outcome"}),
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.writes, m.reads)
	m.written, m.found = m.writes.WithLabelValues("done"), m.reads.WithLabelValues("done")
	m.panics = panics.New(logger, m.registry)
	m.measureCluster()
	m.measureRequests()
	return m
}

// measureCluster makes the histograms of what the node's part of the cluster tells.
func (m *metrics) measureCluster() {
	writes := prometheus.NewHistogramVec(histogram.Seconds("lockstep_write_stage_seconds",
		"Time of the stages of a write, once for each log entry: queued on the leader, committed by a majority, applied on this node; and forwarded, from this node to the leader and back."), []string{"stage"})
	disk := prometheus.NewHistogramVec(histogram.Seconds("lockstep_disk_write_seconds",
		"Time of writes to this node's log, with their fsync: entries appended or removed, and the term or vote set."), []string{"what"})
	round := prometheus.NewHistogram(histogram.Seconds("lockstep_read_round_seconds", "Time of the question to the leader that the waiting reads of this node share."))
	snapshot := prometheus.NewHistogram(histogram.Seconds("lockstep_snapshot_seconds", "Time of writing a snapshot, one that came from the leader among them."))
	commands := prometheus.NewHistogram(histogram.Counts("lockstep_entry_commands", "Commands in a log entry that this node made as leader."))
	bytes := prometheus.NewHistogram(histogram.Bytes("lockstep_entry_bytes", "Size of a log entry that this node made as leader."))
	reads := prometheus.NewHistogram(histogram.Counts("lockstep_read_round_reads", "Reads that shared a round."))
	m.registry.MustRegister(writes, disk, round, snapshot, commands, bytes, reads)
	m.cluster = [cluster.Measures]prometheus.Observer{
		cluster.MeasureQueued: writes.WithLabelValues("queued"), cluster.MeasureForwarded: writes.WithLabelValues("forwarded"),
		cluster.MeasureCommitted: writes.WithLabelValues("committed"), cluster.MeasureApplied: writes.WithLabelValues("applied"),
		cluster.MeasureAppended: disk.WithLabelValues("append"), cluster.MeasureCut: disk.WithLabelValues("cut"), cluster.MeasurePromised: disk.WithLabelValues("promise"),
		cluster.MeasureRound: round, cluster.MeasureSnapshot: snapshot,
		cluster.MeasureEntryCommands: commands, cluster.MeasureEntryBytes: bytes, cluster.MeasureRoundReads: reads,
	}
}

// measureRequests makes the metrics of clients' requests.
func (m *metrics) measureRequests() {
	took := prometheus.NewHistogramVec(histogram.Seconds("lockstep_request_seconds",
		"Time of clients' requests on this node, from when they were read until they are answered, by protocol and whether they write; of live readers until they have been told what was there."), []string{"protocol", "kind"})
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_refusals_total", Help: "Clients' requests that were refused, by protocol and the code of the error (lockstep explain CODE).",
	}, []string{"protocol", "code"})
	shed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_shed_total", Help: "Reads and writes that were refused since a queue of this node or the leader was full.",
	}, []string{"kind"})
	m.registry.MustRegister(took, refused, shed)
	of := func(protocol string) requests {
		for _, e := range []*objects.Error{objects.ErrTooMany, objects.ErrInternal, objects.ErrUnavailable} {
			refused.WithLabelValues(protocol, strconv.Itoa(e.Code)) // a rate needs a zero to begin with
		}
		return requests{
			read: took.WithLabelValues(protocol, "read"), write: took.WithLabelValues(protocol, "write"),
			refused: refused.MustCurryWith(prometheus.Labels{"protocol": protocol}),
		}
	}
	m.rest, m.realtime, m.durable = of("rest"), of("realtime"), of("durable")
	m.shedWrites, m.shedRead = shed.WithLabelValues("write"), shed.WithLabelValues("read")
}

// watchLiveReaders has the readers of durable streams, and of objects' events, counted.
func (m *metrics) watchLiveReaders(h *durablestreams.Handler) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lockstep_live_readers", Help: "Live readers of durable streams, long-polling ones among them, and of objects' events.",
	}, func() float64 { return float64(h.LiveReaders()) }))
}

// answered counts a request that was answered, with a refusal or nil.
func (r *requests) answered(write bool, refused *objects.Error, took time.Duration) {
	if refused != nil {
		r.refused.WithLabelValues(strconv.Itoa(refused.Code)).Inc()
	}
	if write {
		r.write.Observe(took.Seconds())
	} else {
		r.read.Observe(took.Seconds())
	}
}

// observe implements cluster.Config.Observe.
func (m *metrics) observe(what cluster.Measure, value float64) { m.cluster[what].Observe(value) }

func (m *metrics) proposed(r *fsm.Result, err error, took time.Duration) {
	m.writeMeter.Observe(took)
	switch {
	case err != nil:
		m.writes.WithLabelValues("failed").Observe(took.Seconds())
		if errors.Is(err, cluster.ErrOverloaded) {
			m.shedWrites.Inc()
		}
	case r.Err != nil:
		m.writes.WithLabelValues("refused").Observe(took.Seconds())
	default:
		m.written.Observe(took.Seconds())
	}
}

func (m *metrics) read(err error, took time.Duration) {
	m.readMeter.Observe(took)
	if err == nil {
		m.found.Observe(took.Seconds())
		return
	}
	outcome := "failed"
	if _, limited := errors.AsType[*cluster.RateLimited](err); limited {
		outcome = "refused"
	}
	if errors.Is(err, cluster.ErrOverloaded) {
		m.shedRead.Inc()
	}
	m.reads.WithLabelValues(outcome).Observe(took.Seconds())
}
