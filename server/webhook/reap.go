package webhook

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// ReapEndpoints runs on the leader: it reports the endpoints of nodes that have been
// gone for a while as disconnected, since nobody else can. What they held lapses from
// then on. reachable returns the ids of the nodes that are there.
func ReapEndpoints(ctx context.Context, node Node, reachable func() []string, logger *slog.Logger) {
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
			if err := dropEndpoints(ctx, node, id); err != nil && ctx.Err() == nil {
				logger.Warn("endpoints of a lost node not reported", "node", id, "error", err)
			}
		}
		missed = now
	}
}

// dropEndpoints reports that nobody is connected to a node any more.
func dropEndpoints(ctx context.Context, node Node, id string) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, reportTimeout)
		r, err := node.Propose(attempt, &fsm.Command{ID: commandid.New(), Op: &fsm.DropEndpoints{Node: id}})
		cancel()
		if err != nil || !r.More {
			return err
		}
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
