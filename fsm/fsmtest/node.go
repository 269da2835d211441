// Package fsmtest has a cluster of one without consensus for tests: a store to
// which every proposed command is applied at once.
package fsmtest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// AccountSID and AuthToken are the credentials of the test account.
const (
	AccountSID = "AC00000000000000000000000000000001"
	AuthToken  = "0123456789abcdef0123456789abcdef"
)

// KeySID and KeySecret are an API key of the test account.
var KeySID = objects.NewSID(objects.KindKey, [16]byte{1})

// KeySecret is the secret of KeySID.
const KeySecret = "secretsecretsecretsecretsecret12"

// Service is the SID of the default service.
var Service = objects.NewSID(objects.KindService, [16]byte{1})

// Node is a store that applies what is proposed.
type Node struct {
	mu    sync.Mutex
	fsm   *fsm.FSM
	index uint64
	now   func() time.Time
}

// New makes a node with the test account, its key and the default service.
// Commands are stamped with what now returns; nil means the time of day.
func New(now func() time.Time) *Node {
	if now == nil {
		now = time.Now
	}
	n := &Node{fsm: fsm.New(fsm.Config{}), now: now}
	n.Must(&fsm.Initialise{ClusterID: "test", AccountSID: AccountSID, AuthToken: AuthToken, Service: Service})
	n.Must(&fsm.CreateKey{SID: KeySID, Secret: KeySecret})
	return n
}

// FSM returns the store.
func (n *Node) FSM() *fsm.FSM { return n.fsm }

// View returns the state.
func (n *Node) View() *fsm.View { return n.fsm.View() }

// Read returns the state: with one node, the latest is the linearizable one.
func (n *Node) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	return n.fsm.View(), ctx.Err()
}

// Wait returns a view that contains the log up to index.
func (n *Node) Wait(ctx context.Context, index uint64) (*fsm.View, error) {
	return n.fsm.Wait(ctx, index)
}

// Propose applies a command.
func (n *Node) Propose(ctx context.Context, c *fsm.Command) (result *fsm.Result, err error) {
	n.ProposeAll(ctx, []*fsm.Command{c}, func(_ int, r *fsm.Result, failed error) { result, err = r, failed })
	return result, err
}

// ProposeAll applies commands, in one log entry.
func (n *Node) ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error)) {
	results, err := n.apply(ctx, commands)
	for i := range commands {
		if err != nil {
			told(i, nil, err)
		} else {
			told(i, results[i], nil)
		}
	}
}

func (n *Node) apply(ctx context.Context, commands []*fsm.Command) ([]*fsm.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var bodies [][]byte
	for _, c := range commands {
		c.Issued = n.index
		body, err := c.Encode()
		if err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	n.index++
	results := n.fsm.Apply(&raft.Log{
		Index: n.index, Term: 1, Type: raft.LogCommand,
		Data: fsm.EncodeBatch(n.now().UnixMilli(), bodies),
	}).([]*fsm.Result)
	n.verify(commands)
	return results, nil
}

// verify panics if the commands left a state that is not what the store takes it for,
// which ends a node at its next snapshot. A large state is not looked at each time.
func (n *Node) verify(commands []*fsm.Command) {
	v := n.fsm.View()
	if v.Bytes()+v.TombstoneBytes()+v.OutboxBytes() > 64<<10 {
		return
	}
	if err := v.Verify(); err != nil {
		panic(fmt.Sprintf("after %T: %v", commands[0].Op, err))
	}
}

// Expire removes what is due, as a leader does by itself.
func (n *Node) Expire() {
	for {
		r, err := n.Propose(context.Background(), fsm.Expire(commandid.New()))
		if err != nil || !r.More {
			return
		}
	}
}

// Must applies an operation on the default service with REST credentials, and
// panics if it is refused.
func (n *Node) Must(op fsm.Op) *fsm.Result {
	r, err := n.Propose(context.Background(), &fsm.Command{ID: commandid.New(), Service: Service, Op: op})
	if err == nil && r.Err != nil {
		err = r.Err
	}
	if err != nil {
		panic(err)
	}
	return r
}
