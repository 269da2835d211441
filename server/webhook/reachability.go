package webhook

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// Reporter tells the store which endpoints connect to this node and leave it,
// for services with reachability webhooks, and where endpoints hold items. Reports of
// one identity keep their order. A client's connection never waits for this: when more
// reports wait than the queue holds, the newest are left out.
//
// What was left out, was lost, or became due when a service was configured, is
// made good by comparing the sessions that there are with those that the store
// knows, every few seconds.
type Reporter struct {
	node   Node
	id     string
	logger *slog.Logger
	lanes  [reportLanes]chan report
	seed   maphash.Seed

	mu       sync.Mutex
	sessions map[string]*connection // those that live, and those of which something is still to be told
	waiting  int                    // reports
	settled  chan struct{}          // closed when none waits; nil: none does
}

// connection is a session as this node knows it.
type connection struct {
	service objects.SID
	actor   fsm.Actor
	live    bool
	reports int // queued or on their way
}

type report struct {
	session string
	command *fsm.Command
}

const (
	reportLanes       = 8
	reportLength      = 1024 // of one lane
	reportTimeout     = 10 * time.Second
	reconcileInterval = 2 * time.Second // less than what holds items waits for an endpoint
)

// NewReporter makes a Reporter for the node with this id.
func NewReporter(node Node, nodeID string, logger *slog.Logger) *Reporter {
	r := &Reporter{
		node: node, id: nodeID, logger: logger, seed: maphash.MakeSeed(),
		sessions: make(map[string]*connection),
	}
	for i := range r.lanes {
		r.lanes[i] = make(chan report, reportLength)
	}
	return r
}

// Connected reports that an endpoint connected. session tells its connection
// from all others.
func (r *Reporter) Connected(service objects.SID, actor fsm.Actor, session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &connection{service: service, actor: actor, live: true}
	r.sessions[session] = c
	r.report(session, c, &fsm.ConnectEndpoint{Node: r.id, Session: session})
}

// Disconnected reports that this connection ended.
func (r *Reporter) Disconnected(_ objects.SID, _ fsm.Actor, session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.sessions[session]
	if c == nil {
		return
	}
	c.live = false
	r.report(session, c, &fsm.DisconnectEndpoint{Node: r.id, Session: session})
	r.forget(session, c)
}

// report queues a report, if the service wants it and there is room.
func (r *Reporter) report(session string, c *connection, op fsm.Op) {
	if !r.wanted(session, c) {
		return
	}
	lane := r.lanes[maphash.String(r.seed, c.actor.Identity)%reportLanes]
	select {
	case lane <- report{session, &fsm.Command{ID: commandid.New(), Actor: c.actor, Service: c.service, Op: op}}:
		c.reports++
		if r.waiting++; r.settled == nil {
			r.settled = make(chan struct{})
		}
	default:
		r.logger.Warn("reachability report delayed", "service", c.service.String())
	}
}

// wanted reports whether the store is to know of a session: its service has
// reachability webhooks, its endpoint holds items, or it is known already.
func (r *Reporter) wanted(session string, c *connection) bool {
	v := r.node.View()
	s, ok := v.Service(fsm.Ref{SID: c.service})
	if !ok || s.ReachabilityWebhooks {
		return ok
	}
	_, holds := v.Holder(s.Num, c.actor.Identity, c.actor.Endpoint)
	return holds || v.HasEndpoint(fsm.Endpoint{Service: s.Num, Identity: c.actor.Identity, ID: c.actor.Endpoint, Node: r.id, Session: session})
}

// reported is called when a report has been proposed, whatever came of it.
func (r *Reporter) reported(session string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		close(r.settled)
		r.settled = nil
	}
	c := r.sessions[session]
	c.reports--
	r.forget(session, c)
}

// forget drops a session that ended when nothing more is on its way.
func (r *Reporter) forget(session string, c *connection) {
	if !c.live && c.reports == 0 {
		delete(r.sessions, session)
	}
}

// Run sends the reports until the context ends. It starts by clearing what an
// earlier life of this node left behind.
func (r *Reporter) Run(ctx context.Context) {
	if err := dropEndpoints(ctx, r.node, r.id); err != nil && ctx.Err() == nil {
		r.logger.Warn("endpoints of an earlier life not reported", "error", err)
	}
	var lanes sync.WaitGroup
	for _, lane := range r.lanes {
		lanes.Go(func() { r.send(ctx, lane) })
	}
	tick := time.NewTicker(reconcileInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			r.reconcile()
		case <-ctx.Done():
		}
	}
	lanes.Wait()
}

func (r *Reporter) send(ctx context.Context, lane <-chan report) {
	for {
		select {
		case x := <-lane:
			r.propose(ctx, x.command)
			r.reported(x.session)
		case <-ctx.Done():
			return
		}
	}
}

func (r *Reporter) propose(ctx context.Context, c *fsm.Command) {
	attempt, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if _, err := r.node.Propose(attempt, c); err != nil && ctx.Err() == nil {
		r.logger.Warn("reachability not reported", "error", err)
	}
}

// reconcile compares what the store knows of this node with what there is.
// Sessions of which something is on its way are left for the next time. To
// report twice does no harm.
func (r *Reporter) reconcile() {
	view := r.node.View()
	known := make(map[string]fsm.Endpoint)
	view.EndpointsOf(r.id, func(e fsm.Endpoint) bool {
		known[e.Session] = e
		return true
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	for session, c := range r.sessions {
		if _, told := known[session]; c.live && c.reports == 0 && !told {
			r.report(session, c, &fsm.ConnectEndpoint{Node: r.id, Session: session})
		}
	}
	for session, e := range known {
		s, ok := view.ServiceByNumber(e.Service)
		if !ok || r.sessions[session] != nil {
			continue
		}
		c := &connection{service: s.SID, actor: fsm.Actor{Identity: e.Identity, Endpoint: e.ID, Token: true}}
		r.sessions[session] = c
		r.report(session, c, &fsm.DisconnectEndpoint{Node: r.id, Session: session})
		r.forget(session, c)
	}
}

// Flush waits until all reports have been sent, as long as the context allows.
func (r *Reporter) Flush(ctx context.Context) {
	r.mu.Lock()
	settled := r.settled
	r.mu.Unlock()
	if settled == nil {
		return
	}
	select {
	case <-settled:
	case <-ctx.Done():
	}
}
