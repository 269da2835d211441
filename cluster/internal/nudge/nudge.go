// Package nudge tells followers at once what was committed. Raft does so only with
// the next entries or after CommitTimeout, which on a quiet log is what a
// subscriber on a follower would wait.
//
// A nudge is an AppendEntries without entries. What it declares committed is
// the last entry that this node's own store has applied, by index and term:
// the two belong together, and the entry is committed. A follower accepts only
// if its log has that very entry, and so all before it.
package nudge

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/fsm"
)

const (
	// tries is how often a follower that lacks only the last entries is
	// nudged again, after pause, twice that, and so on.
	tries = 5
	pause = time.Millisecond
	// rest is how long a follower is left alone after a nudge got nowhere.
	rest = 100 * time.Millisecond
	// reach is how many entries a follower may lack and still be waited for.
	reach = 256
)

// Nudger is a leader's. Every field is required.
type Nudger struct {
	Self      string // this server
	Store     *fsm.FSM
	Transport raft.Transport
	Servers   func() []raft.Server // raft's configuration
	Leads     func(term uint64) bool
	Life      *lifetime.Lifetime

	// Applied has one slot, which is filled when the store has applied something.
	Applied <-chan struct{}
}

// Run nudges all followers as long as the term lasts.
func (n *Nudger) Run(t *leadership.Term) {
	nudged := make(map[raft.ServerID]chan struct{})
	for {
		select {
		case <-n.Applied:
		case <-t.Context().Done():
			return
		}
		servers := n.Servers()
		for _, s := range servers {
			if string(s.ID) == n.Self {
				continue
			}
			signal := nudged[s.ID]
			if signal == nil {
				signal = make(chan struct{}, 1)
				nudged[s.ID] = signal
				// A request to a dead host ends only with the node's network, which
				// must not hold up the end of the term: the node waits, not the term.
				if n.Life.Go(func() { n.follow(t, s.ID, signal) }) != nil {
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

// follow nudges one follower as long as the term lasts, one request at a time.
func (n *Nudger) follow(t *leadership.Term, id raft.ServerID, signal <-chan struct{}) {
	for {
		select {
		case <-signal:
		case <-t.Context().Done():
			return
		}
		servers := n.Servers()
		i := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
		if i < 0 {
			continue
		}
		if !n.untilTaken(t.Context(), t.Number, servers[i]) {
			lifetime.Pause(t.Context(), rest)
		}
	}
}

func (n *Nudger) untilTaken(ctx context.Context, number uint64, to raft.Server) bool {
	for try := range tries {
		view := n.Store.View()
		if !n.Leads(number) {
			return false
		}
		request := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{
				ProtocolVersion: raft.ProtocolVersionMax,
				ID:              []byte(n.Self),
				Addr:            n.Transport.EncodePeer(raft.ServerID(n.Self), n.Transport.LocalAddr()),
			},
			Term:              number,
			PrevLogEntry:      view.Index(),
			PrevLogTerm:       view.Term(),
			LeaderCommitIndex: view.Index(),
		}
		var response raft.AppendEntriesResponse
		if err := n.Transport.AppendEntries(to.ID, to.Address, request, &response); err != nil {
			return false
		}
		if response.Success {
			return true
		}
		if response.Term != number || response.LastLog >= view.Index() || view.Index()-response.LastLog > reach {
			return false
		}
		lifetime.Pause(ctx, pause<<try)
	}
	return false
}
