// Package sim runs whole clusters, with the real raft library, store, proposer,
// reader and hub, in one process and in virtual time. Only the network, the disk
// and the machines' clocks are replaced, by ones that fail as a seed says: what is
// cut, lost, late or comes twice; what a crash leaves of a write, what fails, hangs
// or finds no room; clocks that step.
//
// A seed decides what is done and what goes wrong, and when. In which order
// goroutines run at one moment of virtual time is the Go scheduler's choice, so
// that a seed that failed may have to be run a few times (go test -count).
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
	// refusalDelay is how long it takes to find out that a node is not there.
	refusalDelay = 5 * time.Millisecond
	// copyDelay is how much later, at most, a request comes once more.
	copyDelay = 2 * time.Second
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
	cut          map[way]bool         // refused at once
	deaf         map[way]bool         // lost without a word
	lost, twice  int                  // of a hundred requests or answers, and of requests
	underWay     *sync.WaitGroup      // what is on its way and not lost, since Settle was called last
}

// way is one direction of a link.
type way struct{ from, to string }

// NewNetwork makes a network without nodes. It draws its delays from a source of
// its own, seeded from r.
func NewNetwork(r *rand.Rand, appendDelays, otherDelays Delays) *Network {
	return &Network{
		rand: rand.New(rand.NewPCG(r.Uint64(), r.Uint64())), appendDelays: appendDelays, otherDelays: otherDelays,
		endpoints: make(map[string]*endpoint), cut: make(map[way]bool), deaf: make(map[way]bool), underWay: new(sync.WaitGroup),
	}
}

// Settle waits until all that is on its way now, copies and answers too, has arrived
// or is lost.
func (n *Network) Settle() {
	n.mu.Lock()
	before := n.underWay
	n.underWay = new(sync.WaitGroup)
	n.mu.Unlock()
	before.Wait()
}

// depart notes that something is on its way until the function that it returns is
// called, perhaps more than once.
func (n *Network) depart() (arrived func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.underWay.Add(1)
	return sync.OnceFunc(n.underWay.Done)
}

// SetDelays changes how long requests travel from now on: AppendEntries, and
// all others.
func (n *Network) SetDelays(appendDelays, otherDelays Delays) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.appendDelays, n.otherDelays = appendDelays, otherDelays
}

// SetLoss has so many of a hundred requests lost, or their answers, and so many
// of raft's requests that arrive come a second time, later. The members' own
// requests come once: each is a frame on one connection, and whoever was told that
// one was not carried out may rely on that.
func (n *Network) SetLoss(lost, twice int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost, n.twice = lost, twice
}

// Isolate cuts all links of a node; Heal mends all links of all nodes.
func (n *Network) Isolate(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.endpoints {
		if other != id {
			n.cut[way{id, other}], n.cut[way{other, id}] = true, true
		}
	}
}

// Cut cuts the link between two nodes.
func (n *Network) Cut(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a != b {
		n.cut[way{a, b}], n.cut[way{b, a}] = true, true
	}
}

// Deafen loses whatever one node sends to another, requests and answers. Nobody is
// told.
func (n *Network) Deafen(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from != to {
		n.deaf[way{from, to}] = true
	}
}

// Heal mends all links. Delays stay.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	clear(n.deaf)
	n.lost, n.twice = 0, 0
}

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
	case n.cut[way{from, to}]:
		return nil, errCut
	case e == nil || e.ctx.Err() != nil:
		return nil, errDown
	}
	return e, nil
}

// loses draws whether what travels this way is lost.
func (n *Network) loses(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.deaf[way{from, to}] || n.lost > 0 && n.rand.IntN(100) < n.lost
}

// repeats draws whether a request comes once more, and how much later.
func (n *Network) repeats() (later time.Duration, again bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.twice == 0 || n.rand.IntN(100) >= n.twice {
		return 0, false
	}
	return upTo(n.rand, copyDelay), true
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
// may be cut off or go down before the answer is back, and what is lost on its way
// is waited for until ctx ends. A request that comes once more is answered to
// nobody: again makes that, unless it is nil.
func (e *endpoint) exchange(ctx context.Context, to string, appends bool, deliver func(ctx context.Context, other *endpoint) error, again func(ctx context.Context, other *endpoint)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	arrived := e.network.depart()
	defer arrived()
	request, answer := e.network.delays(appends)
	if _, err := e.network.route(e.id, to); err != nil {
		e.wait(ctx, refusalDelay)
		return fmt.Errorf("%w: %w", cluster.ErrNotSent, err)
	}
	if err := e.wait(ctx, request); err != nil {
		return err
	}
	if e.network.loses(e.id, to) {
		arrived()
		<-ctx.Done()
		return ctx.Err()
	}
	other, err := e.network.route(e.id, to)
	if err != nil {
		return err
	}
	if later, twice := e.network.repeats(); twice && again != nil {
		arrived := e.network.depart()
		go func() { // ends with the other end
			defer arrived()
			if e.wait(other.ctx, later) == nil {
				again(other.ctx, other)
			}
		}()
	}
	there, leave := context.WithCancel(ctx)
	defer leave()
	defer context.AfterFunc(other.ctx, leave)()
	if err := deliver(there, other); err != nil {
		return err
	}
	if e.network.loses(to, e.id) {
		arrived()
		<-ctx.Done()
		return ctx.Err()
	}
	// The answer waits in this node's own buffers: a cut comes too late for it.
	if now, err := e.network.route(to, e.id); err != nil || now != e {
		return errDown
	}
	if now, err := e.network.route(e.id, to); err != nil || now != other {
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
	}, nil)
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
	again := func(ctx context.Context, other *endpoint) {
		if other.receive(ctx, raft.RPC{Command: args, RespChan: make(chan raft.RPCResponse, 1)}) != nil {
			return // it is down
		}
	}
	if data != nil { // which is read once
		again = nil
	}
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
	}, again)
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
