package cluster

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// takeoverStep keeps two followers of a dead leader from standing at once.
	takeoverStep = 50 * time.Millisecond
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
		ctx, stop := until(n.ctx, changed)
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

// takeOver stands for election when it is this node's turn and nobody else has
// won by then.
func (n *Node) takeOver(dead raftState) {
	rank, votes := successorRank(n.voters(), dead.leader, n.config.ID)
	if !votes {
		return
	}
	n.pause(n.ctx, time.Duration(rank)*takeoverStep)
	now := look(n.raft)
	if n.ctx.Err() != nil || now.role != raft.Follower || (now.leader != "" && now.leader != dead.leader) {
		return
	}
	n.config.Logger.Info("leader's process is gone, standing for election", "leader", dead.leader, "term", now.term)
	n.stand()
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

// successorRank is a node's place among the voters that remain, in the order
// of their ids.
func successorRank(voters []raft.Server, dead, self string) (rank int, votes bool) {
	remain := slices.DeleteFunc(slices.Clone(voters), func(s raft.Server) bool { return string(s.ID) == dead })
	rank = slices.IndexFunc(remain, func(s raft.Server) bool { return string(s.ID) == self })
	return rank, rank >= 0
}
