// Package takeover has a follower campaign as soon as the leader's process is gone,
// instead of waiting for raft's time-outs. Elections are always safe: a wrong guess
// costs one election, at most once a term.
package takeover

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/status"
)

const (
	// stepTime is how long each follower waits for the one before it in line, so
	// that two do not campaign at once; scaled.
	stepTime = 50 * time.Millisecond
	// steps is the number of steps for which a takeover is tried. After that
	// raft's time-outs decide.
	steps = 20
	// holdPause is the pause before this node connects to the leader again when
	// the connection broke although the leader lives.
	holdPause = time.Second
)

// Leadership tells a takeover which server leads.
type Leadership interface {
	// State returns the leader and term, and a channel that is closed when they
	// change.
	State() (leadership.State, <-chan struct{})

	// Look asks raft for the leader and term now.
	Look() leadership.State
}

// Report is a voter's account of itself.
type Report struct {
	Log       status.LogEnd
	Term      uint64
	Candidate bool
}

// Watcher watches the leader for one node. Every field is required.
type Watcher struct {
	Self       string // this server
	Leadership Leadership
	Raft       *raft.Raft
	Transport  raft.Transport
	Life       *lifetime.Lifetime
	Logger     *slog.Logger

	// Refused holds a connection to a server until it breaks, and
	// reports whether connecting again was refused.
	Refused func(ctx context.Context, server string) bool

	// Voters returns the voting servers.
	Voters func() []raft.Server

	// Reports asks servers for their reports and leaves out those that do not answer.
	Reports func(ctx context.Context, servers []raft.Server) map[string]Report

	// Unfit reports whether this node must not lead.
	Unfit func() bool

	// Scale multiplies the pauses.
	Scale func(time.Duration) time.Duration
}

// Run holds a connection to the leader until the node ends. When the leader's
// process dies and its host lives, the connection breaks at once and the next one
// is refused. The leader is gone then, and waiting for a time-out would only cost
// time: this node campaigns, as in a leadership transfer.
func (w *Watcher) Run() {
	var tried uint64
	for w.Life.Context().Err() == nil {
		state, changed := w.Leadership.State()
		if state.Leader == "" || state.Leader == w.Self {
			select {
			case <-changed:
			case <-w.Life.Context().Done():
			}
			continue
		}
		ctx, stop := w.untilSucceeded(state.Leader)
		refused := w.Refused(ctx, state.Leader)
		if refused && state.Term > tried {
			tried = state.Term
			w.campaignInTurn(state)
		} else {
			lifetime.Pause(ctx, holdPause)
		}
		stop()
	}
}

// untilSucceeded returns a context that ends when there is another leader. It goes
// on while there is none: others may have campaigned and failed before this node
// noticed that the leader is gone.
func (w *Watcher) untilSucceeded(leader string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(w.Life.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		defer cancel()
		for {
			state, changed := w.Leadership.State()
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

// campaignInTurn campaigns when it is this node's turn, unless another voter does or
// there is a leader again. The voter with the newest log is first in line, because
// it can win. Logs may still grow by what the dead leader sent, so the order is
// determined anew in each step.
func (w *Watcher) campaignInTurn(dead leadership.State) {
	remain := slices.DeleteFunc(w.Voters(), func(s raft.Server) bool { return string(s.ID) == dead.Leader })
	step := w.Scale(stepTime)
	term, stalled := dead.Term, uint64(0)
	waited := time.Duration(0)
	for range steps {
		reports := w.reportsWithin(step, remain)
		rank, votes := successorRank(reports, w.Self)
		if !votes || w.succeeded(dead) || w.Unfit() {
			return
		}
		switch latest, candidates := candidacies(reports); {
		case latest > term || (candidates && stalled != term):
			lifetime.Pause(w.Life.Context(), 2*step)
			term, stalled, waited = latest, latest, 0
		case waited >= time.Duration(rank)*step:
			w.Logger.Info("leader's process is gone, standing for election", "leader", dead.Leader, "term", term)
			w.Campaign()
			lifetime.Pause(w.Life.Context(), 2*step)
		default:
			lifetime.Pause(w.Life.Context(), step/5)
			waited += step / 5
		}
	}
}

// succeeded reports whether there is a leader again, or this node ends.
func (w *Watcher) succeeded(dead leadership.State) bool {
	now := w.Leadership.Look()
	again := now.Leader != "" && (now.Leader != dead.Leader || now.Term != dead.Term)
	return again || w.Life.Context().Err() != nil
}

func (w *Watcher) reportsWithin(d time.Duration, servers []raft.Server) map[string]Report {
	ctx, cancel := context.WithTimeout(w.Life.Context(), d)
	defer cancel()
	return w.Reports(ctx, servers)
}

// Campaign makes this follower a candidate now, with the request that a leader sends
// to its successor.
func (w *Watcher) Campaign() {
	if w.Raft.State() != raft.Follower {
		return
	}
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(w.Self),
		Addr:            w.Transport.EncodePeer(raft.ServerID(w.Self), w.Transport.LocalAddr()),
	}}
	err := w.Transport.TimeoutNow(raft.ServerID(w.Self), w.Transport.LocalAddr(), request, new(raft.TimeoutNowResponse))
	if err != nil && !w.Life.Ended() {
		w.Logger.Warn("standing for election failed", "error", err)
	}
}

// successorRank returns a node's place among the remaining voters that answer, by
// their logs, as raft compares them, and then by id.
func successorRank(reports map[string]Report, self string) (rank int, votes bool) {
	own, votes := reports[self]
	for id, r := range reports {
		if newer := r.Log.Compare(own.Log); newer > 0 || (newer == 0 && id < self) {
			rank++
		}
	}
	return rank, votes
}

// candidacies returns the latest term in the reports, and whether one of them is a
// candidate's.
func candidacies(reports map[string]Report) (latest uint64, candidates bool) {
	for _, r := range reports {
		latest = max(latest, r.Term)
		candidates = candidates || r.Candidate
	}
	return latest, candidates
}
