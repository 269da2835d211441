package transport

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// errHeld: this node has nothing to say as a leader.
var errHeld = errors.New("cluster: held back while this node's disk does not write")

// errNoVote: this node has no part in elections yet.
var errNoVote = errors.New("cluster: this node does not vote yet")

// Guard is raft's transport, but for two things that raft believes, and two that
// it does: its heartbeats go on while the rest of a leader hangs, and keep the
// others from choosing a better one; they are held back here. And it tells
// followers that entries are committed which this leader is still writing: here it
// tells of those that are written.
//
// A node without a configuration votes for any candidate, since it may be about
// to become part of a new cluster; here it is one that has not been added yet,
// or has lost its log, and has no vote. Nor does it vote, or stand, before it
// knows that its log is all that it had. And raft counts an answer for the
// server that was asked, whichever gave it; here it has to be of that very
// incarnation. (The internal port sees to that for all of raft's streams, by
// the certificates; this is the same for every transport.)
type Guard struct {
	Transport
	self     string
	mayVote  func() bool
	held     func() bool
	written  func(index uint64) uint64
	requests chan raft.RPC
	closing  chan struct{}
	once     sync.Once
	passing  sync.WaitGroup
}

// NewGuard returns the transport of the server self, guarded; mayVote reports
// whether this server has a part in elections, and held whether it must not act as
// a leader; written returns the last index up to the given one that its disk has.
// Close ends its goroutine.
func NewGuard(inner Transport, self string, mayVote, held func() bool, written func(index uint64) uint64) *Guard {
	g := &Guard{Transport: inner, self: self, mayVote: mayVote, held: held, written: written, requests: make(chan raft.RPC), closing: make(chan struct{})}
	g.passing.Go(g.pass)
	return g
}

// Consumer implements raft.Transport.
func (g *Guard) Consumer() <-chan raft.RPC { return g.requests }

// Close implements raft.WithClose.
func (g *Guard) Close() error {
	g.once.Do(func() { close(g.closing) })
	g.passing.Wait()
	return g.Transport.Close()
}

// pass hands requests on to raft, but for those that it must not answer itself.
func (g *Guard) pass() {
	for {
		select {
		case rpc := <-g.Transport.Consumer():
			if refusal := g.refusal(rpc.Command); refusal != nil {
				rpc.Respond(refusal, nil)
				continue
			}
			select {
			case g.requests <- rpc:
			case <-g.closing:
				return
			}
		case <-g.closing:
			return
		}
	}
}

// refusal returns the answer to a request for the vote of a server that has none.
func (g *Guard) refusal(request any) any {
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.self)}
	var answer any
	switch r := request.(type) {
	case *raft.RequestVoteRequest:
		answer = &raft.RequestVoteResponse{RPCHeader: header, Term: r.Term}
	case *raft.RequestPreVoteRequest:
		answer = &raft.RequestPreVoteResponse{RPCHeader: header, Term: r.Term}
	}
	if answer == nil || g.mayVote() {
		return nil
	}
	return answer
}

// AppendEntries implements raft.Transport.
func (g *Guard) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if g.held() {
		return errHeld
	}
	err := g.Transport.AppendEntries(id, addr, g.told(args), resp)
	return checkAnswer(err, id, addr, resp.RPCHeader)
}

// AppendEntriesPipeline implements raft.Transport.
func (g *Guard) AppendEntriesPipeline(id raft.ServerID, addr raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := g.Transport.AppendEntriesPipeline(id, addr)
	if err != nil {
		return nil, err
	}
	return &guardedPipeline{p, g}, nil
}

// guardedPipeline holds back what a pipeline sends in place of heartbeats, too.
type guardedPipeline struct {
	raft.AppendPipeline
	guard *Guard
}

// AppendEntries implements raft.AppendPipeline.
func (p *guardedPipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.guard.held() {
		return nil, errHeld
	}
	return p.AppendPipeline.AppendEntries(p.guard.told(args), resp)
}

// told returns what a follower is told in the place of a request. That is left as it
// is: raft uses one again for all heartbeats, and an earlier one may still be on its way.
func (g *Guard) told(args *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	told := *args
	told.LeaderCommitIndex = g.written(args.LeaderCommitIndex)
	return &told
}

// RequestVote implements raft.Transport.
func (g *Guard) RequestVote(id raft.ServerID, addr raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if !g.mayVote() {
		return errNoVote
	}
	err := g.Transport.RequestVote(id, addr, args, resp)
	return checkAnswer(err, id, addr, resp.RPCHeader)
}

// RequestPreVote implements raft.WithPreVote.
func (g *Guard) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if !g.mayVote() {
		return errNoVote
	}
	err := g.Transport.RequestPreVote(id, addr, args, resp)
	return checkAnswer(err, id, addr, resp.RPCHeader)
}

func checkAnswer(err error, id raft.ServerID, addr raft.ServerAddress, header raft.RPCHeader) error {
	if err == nil && string(header.ID) != string(id) {
		return fmt.Errorf("%s answers as %s and not as %s", addr, header.ID, id)
	}
	return err
}
