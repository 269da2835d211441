package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster"
	"lockstep/server/acme"
	"lockstep/server/admin"
	"lockstep/server/api"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/backup"
	"lockstep/server/budget"
	"lockstep/server/console"
	"lockstep/server/durablestreams"
	"lockstep/server/enrol"
	"lockstep/server/guard"
	"lockstep/server/limits"
	"lockstep/server/nodedir"
	"lockstep/server/realtime"
	"lockstep/server/trace"
	"lockstep/server/webhook"
)

// How long an orderly stop waits: for websockets to be closed one after the
// other, so that their clients do not come back in one moment, and for requests
// under way.
const (
	drainTime       = time.Second
	flushTime       = 2 * time.Second // of what is reported of those who left
	requestsTimeout = 10 * time.Second
)

// node is the node once it belongs to a cluster, with all its parts.
type node struct {
	config   Config
	live     *live
	log      *slog.Logger
	listener *listener
	enroller enrol.Enroller
	record   *enrol.Record

	cluster *cluster.Node
	store   store
	limits  *limits.Limits
	space   space
	room    *diskRoom
	metrics *metrics
	tracer  *trace.Tracer // nil: off

	certificate certificates  // nil: without TLS
	acme        *acme.Manager // nil: it does not come from an authority
	keys        auth.Keyring
	guard       *guard.Guard

	reporter *webhook.Reporter
	realtime *realtime.Server
	durable  *durablestreams.Handler
	router   *router      // of clients
	operator http.Handler // of operators

	webhooks *webhook.Sender
	backups  *backups
	console  *console.Console // nil: without

	gate     drainGate
	stopping atomic.Bool // or leaving
	leaving  sync.Mutex  // held while it leaves: one leave at a time

	schedule *backup.Schedule // nil: this node makes no backups by itself
}

// newNode opens the node's part of its cluster and makes all that serves it.
func (s *Server) newNode(ctx context.Context, l *listener, e enrol.Enroller, r *nodedir.Record) (_ *node, err error) {
	c := s.config
	tracer, err := newTracer(c, r.ID)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tracer.Close(ctx))
		}
	}()
	n := &node{
		config: c, log: c.Logger, listener: l, enroller: e, record: enrol.NewRecord(c.DataDir),
		live: s.live, limits: s.live.limits, certificate: s.certificate, acme: s.acme, space: newSpace(c.Bounds), room: newDiskRoom(c.Bounds, c.DataDir, c.Logger), metrics: newMetrics(c.Logger), tracer: tracer,
	}
	o := opener{config: c, enroller: e, admission: admission{n.limits, n.space, n.room}, record: n.record, metrics: n.metrics, tracer: tracer}
	if n.cluster, err = o.openOrRejoin(ctx, r); err != nil {
		return nil, err
	}
	// From here on the node knows its log when it sees it: before anybody counts on it.
	r.Incarnation = n.cluster.Incarnation()
	if err := n.record.Set(*r); err != nil {
		return nil, errors.Join(err, n.cluster.Close())
	}
	n.metrics.registry.MustRegister(nodeCollector{n.cluster, n.space, n.room})
	n.measureCertificate()
	n.store = store{cluster: n.cluster, limits: n.limits, metrics: n.metrics, tracer: tracer}
	n.keys = keyring{n.store.View}
	n.reporter = webhook.NewReporter(n.store, r.ID, c.Logger)
	p := shared{api: api.New(n.store), bodies: budget.New(int64(c.Bounds.RequestBytes)), answers: budget.New(int64(c.Bounds.AnswerBytes)), audit: audit.New(c.Audit)}
	n.guard = guard.New(guard.Config{
		Delay: c.Bounds.FailureDelay, Waiting: c.Bounds.FailuresWaiting, Audit: p.audit, Metrics: n.metrics.registry,
	})
	n.realtime = newRealtime(n, p)
	n.durable = newDurableStreams(n, p)
	n.metrics.watchLiveReaders(n.durable)
	n.router = &router{
		rest: newREST(n, p), durable: n.durable, realtime: n.realtime, cluster: n.cluster, keys: n.keys,
		gate: &n.gate, stopping: &n.stopping, adminURL: l.adminURL,
	}
	n.backups = newBackups(n.cluster, c, n.room)
	n.schedule = n.backups.schedule(n.metrics)
	asOperator := operator{
		cluster: n.cluster, store: n.store, record: n.record, gossipAddr: c.advertised(r.GossipAddr),
		ready: n.ready, leave: n.leave, backup: n.backups.forOperator,
		notes: []func() string{func() string { return n.space.note(n.store.View()) }, n.room.note, n.certificateNote},
	}
	var reset func(context.Context) error
	if c.Emulator != nil {
		reset = c.Emulator.reset
	}
	n.operator = admin.New(admin.Config{
		Node: asOperator, Allow: n.allow, Reset: reset, Metrics: n.metrics.registry, Audit: p.audit, Logger: c.Logger,
	})
	n.webhooks = newWebhooks(n)
	if !c.NoConsole {
		n.console = newConsole(n, asOperator, p.audit)
		n.operator = beside(n.console, n.operator)
	}
	n.cluster.OnLead("webhooks", n.webhooks.Run)
	n.cluster.OnLead("lost endpoints", func(ctx context.Context) {
		webhook.ReapEndpoints(ctx, n.store, n.reachable, c.Logger)
	})
	return n, nil
}

// ready returns why the node does not serve clients, or nil.
func (n *node) ready() error {
	switch {
	case n.stopping.Load():
		return errors.New("this node is stopping")
	case !n.router.serves():
		return errors.New("this node is catching up")
	}
	return n.cluster.Health()
}

// run serves what the listener shows until the context ends, the node left or was removed, or a part
// breaks; then it stops everything in order.
func (n *node) run(ctx context.Context) error {
	working, stopWork := context.WithCancel(context.Background())
	defer stopWork()
	var work sync.WaitGroup
	work.Go(func() { n.limits.Follow(working, n.cluster.FSM().Feed(), n.cluster.IsLeader) })
	work.Go(func() { n.reporter.Run(working) })
	work.Go(func() { n.notePeers(working) })
	work.Go(func() { n.guard.Run(working) })
	work.Go(func() { n.followAccount(working) })
	work.Go(func() { n.watchFault(working) })
	if n.console != nil {
		n.cluster.OnAsk(n.console.Answer)
		work.Go(func() { n.console.Run(working) })
	}
	if n.acme != nil {
		work.Go(func() { n.keepCertificate(working) })
	}
	if n.schedule != nil {
		work.Go(func() { n.schedule.Run(working) })
	}
	settled := make(chan error, 1)
	work.Go(func() { settled <- n.enroller.Settle(working, n.cluster, n.record) })

	err := n.wait(ctx, settled)

	n.stopping.Store(true)
	if n.console != nil {
		n.console.Close()
	}
	if errors.Is(context.Cause(ctx), errReset) {
		err = errors.Join(err, n.realtime.Close())
	} else {
		err = errors.Join(err, n.dismiss())
	}
	stopWork()
	work.Wait()
	err = errors.Join(err, n.cluster.Close())
	sending, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	if failed := n.tracer.Close(sending); failed != nil {
		n.log.Warn("the last traces were not sent", "error", failed)
	}
	return err
}

// newTracer returns what follows requests, or nil.
func newTracer(c Config, id string) (*trace.Tracer, error) {
	if c.Trace.URL == "" {
		return nil, nil
	}
	return trace.New(trace.Config{URL: c.Trace.URL, Sample: c.Trace.Sample, Node: id, Version: c.Version, Logger: c.Logger})
}

// dismiss lets the clients go, in order.
func (n *node) dismiss() error {
	draining, cancel := context.WithTimeout(context.Background(), drainTime)
	n.durable.Drain()
	n.realtime.Drain(draining)
	cancel()
	closing, cancel := context.WithTimeout(context.Background(), requestsTimeout)
	defer cancel()
	err := errors.Join(n.listener.close(closing), n.realtime.Close())
	flushing, cancel := context.WithTimeout(context.Background(), flushTime)
	n.reporter.Flush(flushing)
	cancel()
	return err
}

// wait returns nil when the node is to stop, and an error when it has to.
func (n *node) wait(ctx context.Context, settled <-chan error) error {
	for {
		select {
		case err := <-settled:
			if err != nil {
				return err
			}
			settled = nil
		case <-ctx.Done():
			return nil
		case err := <-n.listener.failed:
			return err
		case <-n.cluster.Removed(): // by leave, or by others
			return nil
		case <-n.cluster.Failed():
			return n.failed()
		}
	}
}

// leave takes the node out of the cluster. Clients are turned away first, and
// those being served are served. When it succeeds, run ends.
func (n *node) leave(ctx context.Context) error {
	n.leaving.Lock()
	defer n.leaving.Unlock()
	n.stopping.Store(true)
	n.durable.Drain()
	err := n.gate.close(ctx)
	if err == nil {
		err = n.cluster.Leave(ctx)
	}
	if err != nil {
		n.gate.open()
		n.durable.Resume()
		n.stopping.Store(false)
		return err
	}
	n.log.Info("left the cluster")
	return nil
}
