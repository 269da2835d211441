package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// takeoverStep keeps two followers of a dead leader from standing at once. It
	// doubles with each of takeoverRounds attempts; after them, time-outs decide.
	takeoverStep   = 50 * time.Millisecond
	takeoverRounds = 4
	// holdPause is the pause before the leader is connected to again when the
	// connection broke for another reason than its death.
	holdPause = time.Second
)

// watchLeader holds a connection to whoever leads. A process that dies on a
// host that lives breaks it at once and then refuses the next one: the leader is
// gone, and waiting for a time-out would only cost time. This node then stands
// for election, as in a leadership transfer. Elections are always safe: a wrong
// guess costs an election, and at most one a term.
func (n *Node) watchLeader() {
	var tried uint64
	for n.ctx.Err() == nil {
		state, changed := n.state.get()
		if state.leader == "" || state.leader == n.config.ID {
			select {
			case <-changed:
			case <-n.ctx.Done():
			}
			continue
		}
		ctx, stop := n.untilSucceeded(state.leader)
		refused := n.peers.Refused(ctx, state.addr)
		if refused && state.term > tried {
			tried = state.term
			n.takeOver(state)
		} else {
			n.pause(ctx, holdPause)
		}
		stop()
	}
}

// untilSucceeded gives a context that ends when there is another leader. That
// there is none for a while is no reason to look away from the last one: others
// may have stood, and failed, before this node saw why.
func (n *Node) untilSucceeded(leader string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(n.ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer cancel()
		for {
			state, changed := n.state.get()
			if state.leader != "" && state.leader != leader {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		watcher.Wait()
	}
}

// takeOver stands for election when it is this node's turn, unless somebody
// else stands or there is a leader again. First comes whose log is longest: it
// is the one that can win.
func (n *Node) takeOver(dead raftState) {
	remain := slices.DeleteFunc(n.voters(), func(s raft.Server) bool { return string(s.ID) == dead.leader })
	ended := func(now raftState) bool {
		return n.ctx.Err() != nil || (now.leader != "" && (now.leader != dead.leader || now.term != dead.term))
	}
	for round := range takeoverRounds {
		step := takeoverStep << round
		before := look(n.raft)
		ctx, cancel := context.WithTimeout(n.ctx, step)
		rank, votes := successorRank(n.reports(ctx, remain), n.config.ID)
		cancel()
		if !votes {
			return
		}
		n.pause(n.ctx, time.Duration(rank)*step)
		now := look(n.raft)
		if ended(now) {
			return
		}
		if now.role == raft.Follower && now.term == before.term {
			n.config.Logger.Info("leader's process is gone, standing for election", "leader", dead.leader, "term", now.term)
			n.stand()
		}
		n.pause(n.ctx, 2*step)
		if ended(look(n.raft)) {
			return
		}
	}
}

// stand makes this node a candidate now, by what a leader sends to its successor.
func (n *Node) stand() {
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(n.config.ID),
		Addr:            n.transport.EncodePeer(raft.ServerID(n.config.ID), n.transport.LocalAddr()),
	}}
	err := n.transport.TimeoutNow(raft.ServerID(n.config.ID), n.transport.LocalAddr(), request, new(raft.TimeoutNowResponse))
	if err != nil {
		n.config.Logger.Warn("standing for election failed", "error", err)
	}
}

// successorRank is a node's place among the voters that remain and answer: by
// the length of their logs, then by id.
func successorRank(reports map[string]NodeStatus, self string) (rank int, votes bool) {
	own, votes := reports[self]
	for id, r := range reports {
		if r.LastIndex > own.LastIndex || (r.LastIndex == own.LastIndex && id < self) {
			rank++
		}
	}
	return rank, votes
}
