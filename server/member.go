package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster"
	"lockstep/server/admin"
	"lockstep/server/api"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/enrol"
	"lockstep/server/guard"
	"lockstep/server/limits"
	"lockstep/server/livequery"
	"lockstep/server/nodedir"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime"
	"lockstep/server/rest"
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

// member is the node once it belongs to a cluster, with all its parts.
type member struct {
	config   Config
	log      *slog.Logger
	listener *listener
	enroller enrol.Enroller
	record   *enrol.Record
	node     *cluster.Node
	store    store
	limits   *limits.Limits
	space    space
	room     *diskRoom
	metrics  *metrics
	keys     auth.Keyring
	guard    *guard.Guard
	reporter *webhook.Reporter
	realtime *realtime.Server

	rest, operator http.Handler

	gate     drainGate
	stopping atomic.Bool // or leaving
	leaving  sync.Mutex  // held while it leaves: one leave at a time
}

func newMember(ctx context.Context, c Config, l *listener, e enrol.Enroller, r *nodedir.Record) (*member, error) {
	m := &member{
		config: c, log: c.Logger, listener: l, enroller: e, record: enrol.NewRecord(c.DataDir),
		limits: limits.New(c.RateLimits, c.Clock), space: newSpace(c.Bounds), room: newDiskRoom(c.Bounds, c.DataDir, c.Logger), metrics: newMetrics(c.Logger),
	}
	var err error
	o := opener{config: c, enroller: e, admission: admission{m.limits, m.space, m.room}, record: m.record}
	if m.node, err = o.openOrRejoin(ctx, r); err != nil {
		return nil, err
	}
	// From here on the node knows its log when it sees it: before anybody counts on it.
	r.Incarnation = m.node.Incarnation()
	if err := m.record.Set(*r); err != nil {
		return nil, errors.Join(err, m.node.Close())
	}
	m.metrics.registry.MustRegister(nodeCollector{m.node, m.space, m.room})
	m.store = store{node: m.node, limits: m.limits, metrics: m.metrics}
	m.keys = keyring{m.store.View}
	operations := api.New(m.store)
	bodies := budget.New(int64(c.Bounds.RequestBytes))
	m.reporter = webhook.NewReporter(m.store, r.ID, c.Logger)
	log := audit.New(c.Audit)
	m.guard = guard.New(guard.Config{
		Delay: c.Bounds.FailureDelay, Waiting: c.Bounds.FailuresWaiting, Audit: log, Metrics: m.metrics.registry,
	})
	m.rest = rest.New(rest.Config{
		API: operations, Keyring: m.keys, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies, Logger: c.Logger, Panics: m.metrics.panics,
		Audit: log, Refused: func(ctx context.Context, source string) bool { return m.guard.Refused(ctx, "rest", source) },
		Bodies: bodies.Share(int64(c.Bounds.CredentialRequestBytes)),
	})
	m.realtime = realtime.New(realtime.Config{
		API: operations, Node: m.store, Feed: m.node.FSM().Feed(), Keyring: m.keys,
		PublicURL: c.PublicURL, NodeURL: l.url, TrustedProxies: c.TrustedProxies, Ready: m.node.Ready(),
		Connected: m.reporter.Connected, Disconnected: m.reporter.Disconnected,
		Refused: func(ctx context.Context, source string) { m.guard.Refused(ctx, "realtime", source) },
		Limits:  ratelimit.New[string](c.RateLimits.Burst), SessionRequests: c.RateLimits.Requests, Clock: c.Clock, Logger: c.Logger, Metrics: m.metrics.registry, Panics: m.metrics.panics,

		Sessions: c.Bounds.Sessions, QueueLength: c.Bounds.QueueLength, QueueBytes: int(c.Bounds.QueueBytes),
		RequestsPerSession: c.Bounds.RequestsPerSession, InitTimeout: c.Bounds.InitTimeout,

		SessionsPerIdentity: c.Bounds.SessionsPerIdentity, SessionsPerSource: c.Bounds.SessionsPerSource,
		ConnectsPerIdentity: c.Bounds.ConnectsPerIdentity, ConnectsPerSource: c.Bounds.ConnectsPerSource,
		UnknownKeysPerSource: c.Bounds.UnknownKeysPerSource,
		Arrivals:             c.Bounds.Arrivals, ArrivalsPerSource: c.Bounds.ArrivalsPerSource,

		InitBytes: int64(c.Bounds.InitBytes), MessageBytes: int64(c.Bounds.MessageBytes), DiscardBytes: int64(c.Bounds.DiscardBytes),
		SessionByteRate: int64(c.Bounds.SessionByteRate), SessionRequestBytes: int64(c.Bounds.SessionRequestBytes),
		IdentityRequests: c.Bounds.IdentityRequests, FloodRefusals: c.Bounds.FloodRefusals,
		RequestBytes: bodies.Share(int64(c.Bounds.IdentityRequestBytes)),
		AnswerBytes:  budget.New(int64(c.Bounds.AnswerBytes)).Share(int64(c.Bounds.IdentityAnswerBytes)),
		SlowBytes:    int64(c.Bounds.SlowBytes), SlowRate: int64(c.Bounds.SlowRate), SlowWindow: c.Bounds.SlowWindow,

		LiveQueries: livequery.Config{
			PerIdentity: c.Bounds.LiveQueriesPerIdentity, PerMap: c.Bounds.LiveQueriesPerMap, Total: c.Bounds.LiveQueries,
			BacklogLength: c.Bounds.LiveQueryBacklog, MapBacklogBytes: int64(c.Bounds.LiveQueryMapBytes),
			BacklogBytes: int64(c.Bounds.LiveQueryBytes), ResultBytes: int64(c.Bounds.LiveQueryResultBytes),
		},
	})
	m.operator = admin.New(admin.Config{
		Node: operator{m}, Allow: m.allow, Metrics: m.metrics.registry, Audit: log, Logger: c.Logger,
	})
	m.node.OnLead("webhooks", webhook.New(webhook.Config{
		Node: m.store, Clock: c.Clock, Logger: c.Logger, Registerer: m.metrics.registry, Panics: m.metrics.panics,
		Allow: c.WebhookAllow, Cluster: m.listeners,
		Timeout: c.Bounds.WebhookTimeout, Total: c.Bounds.WebhookRequests,
		PerService: c.Bounds.WebhookRequestsPerService, PerHost: c.Bounds.WebhookRequestsPerHost,
	}).Run)
	m.node.OnLead("lost endpoints", func(ctx context.Context) {
		webhook.Sweep(ctx, m.store, m.reachable, c.Logger)
	})
	return m, nil
}

// reachableTimeout bounds finding out which members are there.
const reachableTimeout = 2 * time.Second

// reachable names the members that are there.
func (m *member) reachable() []string {
	ctx, cancel := context.WithTimeout(context.Background(), reachableTimeout)
	defer cancel()
	return m.node.Reachable(ctx)
}

// listeners returns host:port of what the members listen on, as far as this
// node knows it.
func (m *member) listeners() []string {
	addrs := append(m.record.Copy().Seeds, m.node.GossipAddr())
	for _, x := range m.node.Members() {
		addrs = append(addrs, x.InternalAddr)
		for _, text := range []string{x.HTTPURL, x.AdminURL} {
			if u, err := url.Parse(text); err == nil && u.Host != "" {
				addrs = append(addrs, u.Host)
			}
		}
	}
	return addrs
}

// run serves until the context ends, the node left or was removed, or a part
// breaks; then it stops everything in order.
func (m *member) run(ctx context.Context) error {
	working, stopWork := context.WithCancel(context.Background())
	defer stopWork()
	var work sync.WaitGroup
	work.Go(func() { m.limits.Follow(working, m.node.FSM().Feed(), m.node.IsLeader) })
	work.Go(func() { m.reporter.Run(working) })
	work.Go(func() { m.notePeers(working) })
	work.Go(func() { m.guard.Run(working) })
	work.Go(func() { m.followAccount(working) })
	work.Go(func() { m.watchFault(working) })
	settled := make(chan error, 1)
	work.Go(func() { settled <- m.enroller.Settle(working, m.node, m.record) })

	m.listener.show(m, m.operator)
	err := m.wait(ctx, settled)

	m.stopping.Store(true)
	draining, cancel := context.WithTimeout(context.Background(), drainTime)
	m.realtime.Drain(draining)
	cancel()
	closing, cancel := context.WithTimeout(context.Background(), requestsTimeout)
	defer cancel()
	err = errors.Join(err, m.listener.close(closing), m.realtime.Close())
	flushing, cancel := context.WithTimeout(context.Background(), flushTime)
	m.reporter.Flush(flushing)
	cancel()
	stopWork()
	work.Wait()
	return errors.Join(err, m.node.Close())
}

// wait returns nil when the node is to stop, and an error when it has to.
func (m *member) wait(ctx context.Context, settled <-chan error) error {
	for {
		select {
		case err := <-settled:
			if err != nil {
				return err
			}
			settled = nil
		case <-ctx.Done():
			return nil
		case err := <-m.listener.failed:
			return err
		case <-m.node.Removed(): // by leave, or by others
			return nil
		case <-m.node.Failed():
			return m.failed()
		}
	}
}

// leave takes the node out of the cluster. Clients are turned away first, and
// those being served are served. When it succeeds, run ends.
func (m *member) leave(ctx context.Context) error {
	m.leaving.Lock()
	defer m.leaving.Unlock()
	m.stopping.Store(true)
	err := m.gate.close(ctx)
	if err == nil {
		err = m.node.Leave(ctx)
	}
	if err != nil {
		m.gate.open()
		m.stopping.Store(false)
		return err
	}
	m.log.Info("left the cluster")
	return nil
}

// ServeHTTP implements http.Handler: it finds the part of the node that a
// client's request is for.
func (m *member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case r.Method == http.MethodOptions:
		m.rest.ServeHTTP(w, r)
	case path == "/":
		m.about(w, r)
	case !m.serves():
		rest.Unavailable("it is starting").ServeHTTP(w, r)
	case m.faulty():
		rest.Unavailable(faultReason).ServeHTTP(w, r)
	case realtimePath(path) && m.stopping.Load():
		rest.Unavailable("it is stopping").ServeHTTP(w, r)
	case path == realtime.ExchangePath:
		m.realtime.ServeExchange(w, r)
	case realtimePath(path):
		m.realtime.ServeHTTP(w, r)
	default:
		m.serveREST(w, r)
	}
}

func realtimePath(path string) bool {
	return path == realtime.Path || path == realtime.OldPath || path == realtime.ExchangePath
}

// serves reports whether the node knows the state: it has caught up since its
// start, and the cluster has an account, without which nobody's credentials are
// right.
func (m *member) serves() bool {
	account, _ := m.keys.Account()
	return isClosed(m.node.Ready()) && account != ""
}

// serveREST keeps clients out while the node leaves its cluster.
func (m *member) serveREST(w http.ResponseWriter, r *http.Request) {
	if !m.gate.enter() {
		rest.Unavailable("it is leaving its cluster").ServeHTTP(w, r)
		return
	}
	defer m.gate.leave()
	m.rest.ServeHTTP(w, r)
}

// about tells a person what this is.
func (m *member) about(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	operators := `,"health":["/healthz","/readyz"],"metrics":"/metrics"`
	if m.listener.adminURL != "" {
		operators = "" // clients need not know where
	}
	// What fails here is the connection; there is nobody left to tell.
	_, _ = io.WriteString(w, `{"name":"lockstep","rest":"/v1","realtime":"/v3/wsconnect"`+operators+"}\n")
}
