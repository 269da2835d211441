package webhook

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
)

// Reporter tells the store which endpoints connect to this node and leave it,
// for services with reachability webhooks. Reports of one endpoint keep their
// order. When more wait than the queue holds, the newest are dropped and
// logged: a client's connection never waits for this.
type Reporter struct {
	node   Node
	id     string
	logger *slog.Logger
	lanes  [reportLanes]chan *fsm.Command
	seed   maphash.Seed
	wg     sync.WaitGroup
}

const (
	reportLanes   = 8
	reportLength  = 1024 // of one lane
	reportTimeout = 10 * time.Second
)

// NewReporter makes a Reporter for the node with this id.
func NewReporter(node Node, nodeID string, logger *slog.Logger) *Reporter {
	r := &Reporter{node: node, id: nodeID, logger: logger, seed: maphash.MakeSeed()}
	for i := range r.lanes {
		r.lanes[i] = make(chan *fsm.Command, reportLength)
	}
	return r
}

// Connected reports that an endpoint connected. session tells its connection
// from others to this node.
func (r *Reporter) Connected(service objects.SID, actor fsm.Actor, session string) {
	r.report(service, actor, &fsm.ConnectEndpoint{Node: r.id, Session: session})
}

// Disconnected reports that this connection ended.
func (r *Reporter) Disconnected(service objects.SID, actor fsm.Actor, session string) {
	r.report(service, actor, &fsm.DisconnectEndpoint{Node: r.id, Session: session})
}

func (r *Reporter) report(service objects.SID, actor fsm.Actor, op fsm.Op) {
	s, ok := r.node.View().Service(fsm.Ref{SID: service})
	if !ok || !s.ReachabilityWebhooks {
		return
	}
	lane := r.lanes[maphash.String(r.seed, actor.Identity)%reportLanes]
	select {
	case lane <- &fsm.Command{ID: fsm.NewID(), Actor: actor, Service: service, Op: op}:
	default:
		r.logger.Warn("reachability report dropped", "service", service.String())
	}
}

// Run sends the reports until the context ends. It starts by clearing what an
// earlier life of this node left behind.
func (r *Reporter) Run(ctx context.Context) {
	r.propose(ctx, &fsm.Command{ID: fsm.NewID(), Op: &fsm.DropEndpoints{Node: r.id}})
	for _, lane := range r.lanes {
		r.wg.Go(func() {
			for {
				select {
				case c := <-lane:
					r.propose(ctx, c)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	r.wg.Wait()
}

func (r *Reporter) propose(ctx context.Context, c *fsm.Command) {
	attempt, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if _, err := r.node.Propose(attempt, c); err != nil && ctx.Err() == nil {
		r.logger.Warn("reachability not reported", "error", err)
	}
}

// Sweep runs on the leader: it reports the endpoints of nodes that have been
// gone for a while as disconnected, since nobody else can. reachable gives the
// ids of the nodes that are there.
func Sweep(ctx context.Context, node Node, reachable func() []string, logger *slog.Logger) {
	const every, patience = 5 * time.Second, 3
	missed := map[string]int{}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now := map[string]int{}
		there := reachable()
		for _, id := range nodesWithEndpoints(node.View()) {
			if slices.Contains(there, id) {
				continue
			}
			if now[id] = missed[id] + 1; now[id] < patience {
				continue
			}
			attempt, cancel := context.WithTimeout(ctx, reportTimeout)
			_, err := node.Propose(attempt, &fsm.Command{ID: fsm.NewID(), Op: &fsm.DropEndpoints{Node: id}})
			cancel()
			if err != nil && ctx.Err() == nil {
				logger.Warn("endpoints of a lost node not reported", "node", id, "error", err)
			}
		}
		missed = now
	}
}

func nodesWithEndpoints(v *fsm.View) []string {
	var nodes []string
	v.Endpoints(func(e fsm.Endpoint) bool {
		if !slices.Contains(nodes, e.Node) {
			nodes = append(nodes, e.Node)
		}
		return true
	})
	return nodes
}
