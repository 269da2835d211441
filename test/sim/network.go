// Package sim runs whole clusters, with the real raft library, store, proposer
// and reader, in one process and in virtual time. Only the network and the disk
// are replaced: requests can be delayed, and links cut, by seed.
//
// Everything here has to run inside a testing/synctest bubble, and ends with
// Cluster.Close.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster"
)

const (
	// transportTimeout is how long a raft request waits for its answer.
	transportTimeout = 10 * time.Second
	// refusalDelay is how long it takes to find out that a link is cut.
	refusalDelay = 5 * time.Millisecond
)

var (
	errCut  = errors.New("sim: link is cut")
	errDown = errors.New("sim: node is down")
)

// Delays draws how long a request and its answer travel.
type Delays func(r *rand.Rand) (request, answer time.Duration)

// Calm is a fast network.
func Calm(r *rand.Rand) (request, answer time.Duration) {
	return upTo(r, time.Millisecond), upTo(r, time.Millisecond)
}

// Late is a network on which, now and then, an answer is there for seconds before
// it is heard, as when a process is paused: the news is long out of date.
func Late(r *rand.Rand) (request, answer time.Duration) {
	request, answer = Calm(r)
	if r.IntN(4) == 0 {
		answer = upTo(r, 3*time.Second)
	}
	return request, answer
}

func upTo(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// Network connects the nodes of a cluster. Raft's AppendEntries, its heartbeats
// among them, have delays of their own.
type Network struct {
	mu           sync.Mutex
	rand         *rand.Rand
	appendDelays Delays
	otherDelays  Delays
	endpoints    map[string]*endpoint // by address, which is the node's id
	cut          map[[2]string]bool
}

// NewNetwork makes a network without nodes. It draws its delays from a source of
// its own, seeded from r.
func NewNetwork(r *rand.Rand, appendDelays, otherDelays Delays) *Network {
	return &Network{
		rand: rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), appendDelays: appendDelays, otherDelays: otherDelays,
		endpoints: make(map[string]*endpoint), cut: make(map[[2]string]bool),
	}
}

// SetDelays changes how long requests travel from now on: AppendEntries, and
// all others.
func (n *Network) SetDelays(appendDelays, otherDelays Delays) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.appendDelays, n.otherDelays = appendDelays, otherDelays
}

// Isolate cuts all links of a node; Heal mends all links of all nodes.
func (n *Network) Isolate(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.endpoints {
		n.cut[link(id, other)] = true
	}
}

// Cut cuts the link between two nodes.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link(a, b)] = true
}

// Heal mends all links.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

func link(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// attach brings a node up; what an earlier life of it has under way is lost.
func (n *Network) attach(id string) *endpoint {
	e := &endpoint{network: n, id: id, requests: make(chan raft.RPC), serving: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.endpoints[id] = e
	return e
}

// route finds the way to a node as it is now.
func (n *Network) route(from, to string) (*endpoint, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.endpoints[to]
	switch {
	case n.cut[link(from, to)] && from != to:
		return nil, errCut
	case e == nil || e.ctx.Err() != nil:
		return nil, errDown
	}
	return e, nil
}

func (n *Network) delays(appends bool) (request, answer time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if appends {
		return n.appendDelays(n.rand)
	}
	return n.otherDelays(n.rand)
}

// endpoint is one life of a node on the network: raft's transport and the
// members' requests.
type endpoint struct {
	network  *Network
	id       string
	requests chan raft.RPC
	ctx      context.Context // ends when the node goes down
	cancel   context.CancelFunc

	mu        sync.Mutex
	heartbeat func(raft.RPC)
	self      string // the server, valid once serving is closed
	handle    func(ctx context.Context, from string, kind byte, body []byte) []byte
	serving   chan struct{} // closed when handle is set
}

func (e *endpoint) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// exchange has deliver run at the other end, between the two delays. Either end
// may be cut off or go down before the answer is back.
func (e *endpoint) exchange(ctx context.Context, to string, appends bool, deliver func(ctx context.Context, other *endpoint) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	request, answer := e.network.delays(appends)
	if _, err := e.network.route(e.id, to); err != nil {
		e.wait(ctx, refusalDelay)
		return fmt.Errorf("%w: %w", cluster.ErrNotSent, err)
	}
	if err := e.wait(ctx, request); err != nil {
		return err
	}
	other, err := e.network.route(e.id, to)
	if err != nil {
		return err
	}
	there, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(other.ctx, leave)()
	if err := deliver(there, other); err != nil {
		return err
	}
	// The answer waits in this node's own buffers: a cut comes too late for it.
	if again, err := e.network.route(e.id, to); err != nil || again != other {
		return errDown
	}
	return e.wait(ctx, answer)
}

// Peers: the members' own requests.

// Addr implements cluster.Peers.
func (e *endpoint) Addr() string { return e.id }

// Serve implements cluster.Peers.
func (e *endpoint) Serve(self string, handle func(ctx context.Context, from string, kind byte, body []byte) []byte) {
	e.self, e.handle = self, handle
	close(e.serving)
}

// Call implements cluster.Peers.
func (e *endpoint) Call(ctx context.Context, to string, kind byte, body []byte) (answer []byte, err error) {
	err = e.exchange(ctx, addressOf(to), false, func(ctx context.Context, other *endpoint) error {
		select {
		case <-other.serving:
			answer = other.handle(ctx, e.self, kind, body)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return answer, err
}

// addressOf returns the address of a server, which is its node's id.
func addressOf(to string) string {
	node, _, _ := strings.Cut(to, ".")
	return node
}

// Refused implements cluster.Peers.
func (e *endpoint) Refused(ctx context.Context, server string) bool {
	addr := addressOf(server)
	other, err := e.network.route(e.id, addr)
	if err != nil {
		return errors.Is(err, errDown)
	}
	select {
	case <-other.ctx.Done():
	case <-ctx.Done():
		return false
	case <-e.ctx.Done():
		return false
	}
	_, err = e.network.route(e.id, addr)
	return errors.Is(err, errDown)
}

// Close implements cluster.Peers and raft.WithClose.
func (e *endpoint) Close() error {
	e.cancel()
	return nil
}

// Transport: raft's requests.

var (
	_ cluster.Peers    = (*endpoint)(nil)
	_ raft.Transport   = (*endpoint)(nil)
	_ raft.WithPreVote = (*endpoint)(nil)
	_ raft.WithClose   = (*endpoint)(nil)
)

// Consumer implements raft.Transport.
func (e *endpoint) Consumer() <-chan raft.RPC { return e.requests }

// LocalAddr implements raft.Transport.
func (e *endpoint) LocalAddr() raft.ServerAddress { return raft.ServerAddress(e.id) }

// EncodePeer implements raft.Transport.
func (e *endpoint) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (e *endpoint) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (e *endpoint) SetHeartbeatHandler(f func(raft.RPC)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heartbeat = f
}

// AppendEntriesPipeline implements raft.Transport: raft then sends one request
// at a time.
func (e *endpoint) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (e *endpoint) AppendEntries(_ raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return request(e, to, args, nil, resp)
}

// RequestVote implements raft.Transport.
func (e *endpoint) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return request(e, to, args, nil, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (e *endpoint) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return request(e, to, args, nil, resp)
}

// InstallSnapshot implements raft.Transport.
func (e *endpoint) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return request(e, to, args, data, resp)
}

// TimeoutNow implements raft.Transport.
func (e *endpoint) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return request(e, to, args, nil, resp)
}

func request[Answer any](e *endpoint, to raft.ServerAddress, args any, data io.Reader, resp *Answer) error {
	ctx, cancel := context.WithTimeout(context.Background(), transportTimeout)
	defer cancel()
	_, appends := args.(*raft.AppendEntriesRequest)
	return e.exchange(ctx, string(to), appends, func(ctx context.Context, other *endpoint) error {
		answered := make(chan raft.RPCResponse, 1)
		if err := other.receive(ctx, raft.RPC{Command: args, Reader: data, RespChan: answered}); err != nil {
			return err
		}
		select {
		case r := <-answered:
			if r.Error == nil {
				*resp = *r.Response.(*Answer)
			}
			return r.Error
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// receive hands a request to raft; heartbeats past its main loop, as on a real
// network.
func (e *endpoint) receive(ctx context.Context, rpc raft.RPC) error {
	if a, ok := rpc.Command.(*raft.AppendEntriesRequest); ok && isHeartbeat(a) {
		e.mu.Lock()
		heartbeat := e.heartbeat
		e.mu.Unlock()
		if heartbeat != nil {
			heartbeat(rpc)
			return nil
		}
	}
	select {
	case e.requests <- rpc:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.Term != 0 && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}
