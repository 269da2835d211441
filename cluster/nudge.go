package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
)

const (
	// nudgeTries is how often a follower that lacks only the last entries is
	// nudged again, after nudgePause, twice that, and so on.
	nudgeTries = 5
	nudgePause = time.Millisecond
	// nudgeRest is how long a follower is left alone after a nudge got nowhere.
	nudgeRest = 100 * time.Millisecond
	// nudgeReach is how many entries a follower may lack and still be waited for.
	nudgeReach = 256
)

// nudge tells followers at once what was committed. Raft does so only with the
// next entries or after CommitTimeout, which on a quiet log is what a
// subscriber on a follower would wait.
//
// A nudge is an AppendEntries without entries. What it declares committed is
// the last entry that this node's own store has applied, by index and term:
// the two belong together, and the entry is committed. A follower accepts only
// if its log has that very entry, and so all before it.
func (n *Node) nudge(t *leadership.Term) {
	nudged := make(map[raft.ServerID]chan struct{})
	for {
		select {
		case <-n.applied:
		case <-t.Context().Done():
			return
		}
		servers := n.members.All()
		for _, s := range servers {
			if string(s.ID) == n.self {
				continue
			}
			signal := nudged[s.ID]
			if signal == nil {
				signal = make(chan struct{}, 1)
				nudged[s.ID] = signal
				// A request to a dead host ends only with the node's network, which
				// must not hold up the end of the term: the node waits, not the term.
				if n.life.Go(func() { n.nudgeOne(t, s.ID, signal) }) != nil {
					return
				}
			}
			select {
			case signal <- struct{}{}:
			default: // one is under way, one waits: that is enough
			}
		}
	}
}

// nudgeOne nudges one follower as long as the term lasts, one request at a time.
func (n *Node) nudgeOne(t *leadership.Term, id raft.ServerID, signal <-chan struct{}) {
	for {
		select {
		case <-signal:
		case <-t.Context().Done():
			return
		}
		servers := n.members.All()
		i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
		if i < 0 {
			continue
		}
		if !n.nudgeUntilTaken(t.Context(), t.Number, servers[i]) {
			lifetime.Pause(t.Context(), nudgeRest)
		}
	}
}

func (n *Node) nudgeUntilTaken(ctx context.Context, number uint64, to raft.Server) bool {
	for try := range nudgeTries {
		view := n.fsm.View()
		if !n.leadership.Leads(number) {
			return false
		}
		request := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax,
				ID:              []byte(n.self),
				Addr:            n.transport.EncodePeer(raft.ServerID(n.self), n.transport.LocalAddr()),
			},
			Term:              number,
			PrevLogEntry:      view.Index(),
			PrevLogTerm:       view.Term(),
			LeaderCommitIndex: view.Index(),
		}
		var response raft.AppendEntriesResponse
		if err := n.transport.AppendEntries(to.ID, to.Address, request, &response); err != nil {
			return false
		}
		if response.Success {
			return true
		}
		if response.Term != number || response.LastLog >= view.Index() || view.Index()-response.LastLog > nudgeReach {
			return false
		}
		lifetime.Pause(ctx, nudgePause<<try)
	}
	return false
}
