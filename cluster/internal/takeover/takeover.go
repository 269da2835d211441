// Package takeover has a follower stand for election as soon as the leader's process
// is gone, in place of waiting for raft's time-outs. Elections are always safe: a
// wrong guess costs an election, and at most one a term.
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
)

const (
	// stepTime is how long the next in line waits for the one before, so that
	// two do not stand at once; scaled.
	stepTime = 50 * time.Millisecond
	// steps is for how many steps a takeover is tried; from then on
	// raft's time-outs decide.
	steps = 20
	// holdPause is the pause before the leader is connected to again when the
	// connection broke for another reason than its death.
	holdPause = time.Second
)

// Leadership is what a takeover has to know of who leads.
type Leadership interface {
	// State returns who leads, and a channel that is closed when that changed.
	State() (leadership.State, <-chan struct{})

	// Look reads who leads from raft now.
	Look() leadership.State
}

// Report is what a voter says of itself.
type Report struct {
	LastIndex uint64 // of its log
	Term      uint64
	Candidate bool
}

// Watcher is a node's. Every field is required.
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

	// Reports asks servers for their reports; those that do not answer are left out.
	Reports func(ctx context.Context, servers []raft.Server) map[string]Report

	// Unfit reports whether this node must not lead.
	Unfit func() bool

	// Scale multiplies the pauses.
	Scale func(time.Duration) time.Duration
}

// Run holds a connection to whoever leads, until the node ends. A process that dies
// on a host that lives breaks it at once and then refuses the next one: the leader
// is gone, and waiting for a time-out would only cost time. This node then stands
// for election, as in a leadership transfer.
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
			w.takeOver(state)
		} else {
			lifetime.Pause(ctx, holdPause)
		}
		stop()
	}
}

// untilSucceeded returns a context that ends when there is another leader. That
// there is none for a while is no reason to look away from the last one: others
// may have stood, and failed, before this node saw why.
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

// takeOver stands for election when it is this node's turn, unless somebody
// else stands or there is a leader again. First in line is whose log is longest:
// it is the one that can win. The logs may still grow by what the dead leader
// sent, so the line is looked at anew all the time.
func (w *Watcher) takeOver(dead leadership.State) {
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
		switch latest, candidates := standing(reports); {
		case latest > term || (candidates && stalled != term):
			lifetime.Pause(w.Life.Context(), 2*step)
			term, stalled, waited = latest, latest, 0
		case waited >= time.Duration(rank)*step:
			w.Logger.Info("leader's process is gone, standing for election", "leader", dead.Leader, "term", term)
			w.Stand()
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

// Stand makes a follower a candidate now, by what a leader sends to its successor.
func (w *Watcher) Stand() {
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

// successorRank is a node's place among the voters that remain and answer: by
// the length of their logs, then by id.
func successorRank(reports map[string]Report, self string) (rank int, votes bool) {
	own, votes := reports[self]
	for id, r := range reports {
		if r.LastIndex > own.LastIndex || (r.LastIndex == own.LastIndex && id < self) {
			rank++
		}
	}
	return rank, votes
}

// standing returns the latest term that the reports know of, and whether one of
// them is a candidate's.
func standing(reports map[string]Report) (latest uint64, candidates bool) {
	for _, r := range reports {
		latest = max(latest, r.Term)
		candidates = candidates || r.Candidate
	}
	return latest, candidates
}
