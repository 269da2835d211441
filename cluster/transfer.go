package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transferRest is for how long nobody is asked again to take leadership over who
// did not. Raft asks a follower to catch up first, and waits without an end if it
// is asked twice while the first time is still to be seen to; no request of raft's
// goes on for longer than this.
const transferRest = 2 * transportTimeout

// errNoSuccessor: no voter can take leadership over for now.
var errNoSuccessor = errors.New("cluster: no other voter can lead at the moment")

// TransferLeadership hands leadership to the voter whose log is longest among
// those that answer. It succeeds when this node leads no more.
func (n *Node) TransferLeadership(ctx context.Context) error {
	if n.raft.State() != raft.Leader {
		return nil
	}
	voters := n.members.Voters()
	to := n.transfers.successor(voters, n.reports(ctx, voters), n.self)
	if to == nil {
		return errNoSuccessor
	}
	return n.transferTo(ctx, *to)
}

// transferTo hands leadership to a server, unless it had its chance just now.
func (n *Node) transferTo(ctx context.Context, to raft.Server) error {
	if !n.transfers.begin(to.ID) {
		return fmt.Errorf("%w: %s did not take it over", errNoSuccessor, to.ID)
	}
	if err := n.life.Await(ctx, n.raft.LeadershipTransferToServer(to.ID, to.Address)); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	n.transfers.succeeded(to.ID)
	return nil
}

// transfers are the servers that were asked to take leadership over.
type transfers struct {
	mu    sync.Mutex
	asked map[raft.ServerID]time.Time // and did not, as far as is known
}

// successor chooses who is asked next, or nil.
func (t *transfers) successor(voters []raft.Server, reports map[string]NodeStatus, self string) (to *raft.Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var longest uint64
	for i, v := range voters {
		r, answers := reports[string(v.ID)]
		if !answers || string(v.ID) == self || t.rests(v.ID) {
			continue
		}
		if to == nil || r.LastIndex > longest {
			to, longest = &voters[i], r.LastIndex
		}
	}
	return to
}

// begin notes that a server is asked, and reports whether it may be.
func (t *transfers) begin(id raft.ServerID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rests(id) {
		return false
	}
	if t.asked == nil {
		t.asked = make(map[raft.ServerID]time.Time)
	}
	for other := range t.asked {
		if !t.rests(other) {
			delete(t.asked, other)
		}
	}
	t.asked[id] = time.Now()
	return true
}

func (t *transfers) succeeded(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asked, id)
}

// rests is called with the lock held.
func (t *transfers) rests(id raft.ServerID) bool {
	at, asked := t.asked[id]
	return asked && time.Since(at) < transferRest
}
