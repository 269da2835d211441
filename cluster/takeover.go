package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
)

const (
	// takeoverStep is how long the next in line waits for the one before, so that
	// two do not stand at once; scaled.
	takeoverStep = 50 * time.Millisecond
	// takeoverSteps is for how many steps a takeover is tried; from then on
	// raft's time-outs decide.
	takeoverSteps = 20
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
	for n.life.Context().Err() == nil {
		state, changed := n.leadership.State()
		if state.Leader == "" || state.Leader == n.self {
			select {
			case <-changed:
			case <-n.life.Context().Done():
			}
			continue
		}
		ctx, stop := n.untilSucceeded(state.Leader)
		refused := n.peers.Refused(ctx, state.Addr)
		if refused && state.Term > tried {
			tried = state.Term
			n.takeOver(state)
		} else {
			lifetime.Pause(ctx, holdPause)
		}
		stop()
	}
}

// untilSucceeded gives a context that ends when there is another leader. That
// there is none for a while is no reason to look away from the last one: others
// may have stood, and failed, before this node saw why.
func (n *Node) untilSucceeded(leader string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(n.life.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer cancel()
		for {
			state, changed := n.leadership.State()
			if state.Leader != "" && state.Leader != leader {
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
// else stands or there is a leader again. First in line is whose log is longest:
// it is the one that can win. The logs may still grow by what the dead leader
// sent, so the line is looked at anew all the time.
func (n *Node) takeOver(dead leadership.State) {
	remain := slices.DeleteFunc(n.members.Voters(), func(s raft.Server) bool { return string(s.ID) == dead.Leader })
	step := n.config.scaled(takeoverStep)
	term, stalled := dead.Term, uint64(0)
	waited := time.Duration(0)
	for range takeoverSteps {
		reports := n.reportsWithin(step, remain)
		rank, votes := successorRank(reports, n.self)
		if !votes || n.succeeded(dead) || n.clock.farOff() {
			return
		}
		switch latest, candidates := standing(reports); {
		case latest > term || (candidates && stalled != term):
			lifetime.Pause(n.life.Context(), 2*step)
			term, stalled, waited = latest, latest, 0
		case waited >= time.Duration(rank)*step:
			n.config.Logger.Info("leader's process is gone, standing for election", "leader", dead.Leader, "term", term)
			n.stand()
			lifetime.Pause(n.life.Context(), 2*step)
		default:
			lifetime.Pause(n.life.Context(), step/5)
			waited += step / 5
		}
	}
}

// succeeded says whether there is a leader again, or this node ends.
func (n *Node) succeeded(dead leadership.State) bool {
	now := n.leadership.Look()
	again := now.Leader != "" && (now.Leader != dead.Leader || now.Term != dead.Term)
	return again || n.life.Context().Err() != nil
}

func (n *Node) reportsWithin(d time.Duration, servers []raft.Server) map[string]NodeStatus {
	ctx, cancel := context.WithTimeout(n.life.Context(), d)
	defer cancel()
	return n.reports(ctx, servers)
}

// stand makes a follower a candidate now, by what a leader sends to its successor.
func (n *Node) stand() {
	if n.raft.State() != raft.Follower {
		return
	}
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(n.self),
		Addr:            n.transport.EncodePeer(raft.ServerID(n.self), n.transport.LocalAddr()),
	}}
	err := n.transport.TimeoutNow(raft.ServerID(n.self), n.transport.LocalAddr(), request, new(raft.TimeoutNowResponse))
	if err != nil && n.life.Context().Err() == nil {
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

// standing gives the latest term that the reports know of, and whether one of
// them is a candidate's.
func standing(reports map[string]NodeStatus) (latest uint64, candidates bool) {
	for _, r := range reports {
		latest = max(latest, r.Term)
		candidates = candidates || r.Candidate
	}
	return latest, candidates
}
