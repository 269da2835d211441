package membership

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/transport"
)

// transferRest is how long a server that was asked to take leadership over, and
// did not, is not asked again. Raft has a follower catch up first, and waits
// for ever if it is asked a second time before it has finished with the first;
// no request of raft's takes longer than this.
const transferRest = 2 * transport.RequestTimeout

// errNoSuccessor says that no voter can take leadership over for now.
var errNoSuccessor = errors.New("cluster: no other voter can lead at the moment")

// Away hands leadership to the voter whose log is newest among those that answer.
// It succeeds when this node leads no more.
func (t *Transfers) Away(ctx context.Context) error {
	if t.Raft.State() != raft.Leader {
		return nil
	}
	voters := t.Servers.Voters()
	to := t.successor(voters, t.Survey.Reports(ctx, voters), t.Self)
	if to == nil {
		return errNoSuccessor
	}
	return t.To(ctx, *to)
}

// To hands leadership to a server, unless that was tried just now.
func (t *Transfers) To(ctx context.Context, to raft.Server) error {
	if err := t.Held(); err != nil {
		return err
	}
	if !t.begin(to.ID) {
		return fmt.Errorf("%w: %s did not take it over", errNoSuccessor, to.ID)
	}
	if err := t.Life.Await(ctx, t.Raft.LeadershipTransferToServer(to.ID, to.Address)); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	t.succeeded(to.ID)
	return nil
}

// WithoutRaft has another voter stand for election, if this node leads: by the
// request that ends a transfer of leadership, which raft itself cannot send
// while it waits for the disk. If the log of that one is too old to win, the
// election time-outs of the others decide.
func (t *Transfers) WithoutRaft(ctx context.Context, over raft.Transport) error {
	if t.Raft.State() != raft.Leader {
		return nil
	}
	voters := t.Servers.Voters()
	reports := t.Survey.Reports(ctx, voters)
	maps.DeleteFunc(reports, func(_ string, r status.Node) bool { return r.Problem != "" })
	to := t.successor(voters, reports, t.Self)
	if to == nil || !t.begin(to.ID) {
		return errNoSuccessor
	}
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(t.Self), Addr: over.EncodePeer(raft.ServerID(t.Self), over.LocalAddr()),
	}}
	if err := over.TimeoutNow(to.ID, to.Address, request, new(raft.TimeoutNowResponse)); err != nil {
		return fmt.Errorf("hand leadership over: %w", err)
	}
	t.succeeded(to.ID)
	return nil
}

// Transfers hands leadership to others.
type Transfers struct {
	Config

	// Held returns why raft would not answer, if that is so: its main goroutine
	// ends with the first write that fails, and waits with one that hangs.
	Held func() error

	mu    sync.Mutex
	asked map[raft.ServerID]time.Time // when servers were asked to take leadership over that have not, as far as is known
}

// successor chooses the server that is asked next; nil: none.
func (t *Transfers) successor(voters []raft.Server, reports map[string]status.Node, self string) (to *raft.Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var newest status.LogEnd
	for i, v := range voters {
		r, answers := reports[string(v.ID)]
		if !answers || string(v.ID) == self || t.rests(v.ID) {
			continue
		}
		if to == nil || r.LogEnd().Compare(newest) > 0 {
			to, newest = &voters[i], r.LogEnd()
		}
	}
	return to
}

// begin notes that a server is asked, and reports whether it may be.
func (t *Transfers) begin(id raft.ServerID) bool {
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

func (t *Transfers) succeeded(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asked, id)
}

// rests reports whether a server is not to be asked yet. The lock is held.
func (t *Transfers) rests(id raft.ServerID) bool {
	at, asked := t.asked[id]
	return asked && time.Since(at) < transferRest
}
