package replica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// Request asks a member for its digest.
type Request struct {
	Index uint64 `cbor:"1,keyasint"`

	// Verify has the member wait until it has applied the index, and add its whole
	// state up anew.
	Verify bool `cbor:"2,keyasint,omitempty"`
}

// Answer is a member's digest.
type Answer struct {
	Version int        `cbor:"1,keyasint"` // fsm.DigestVersion
	Digest  fsm.Digest `cbor:"2,keyasint"` // the newest at or before the index
	Known   bool       `cbor:"3,keyasint"` // there is one, and it is not forgotten
	Fault   string     `cbor:"4,keyasint,omitempty"`
}

// Answer answers another member.
func (r *Replica) Answer(ctx context.Context, _ string, q Request) (Answer, error) {
	if q.Verify {
		if _, err := r.Store.Wait(ctx, q.Index); err != nil {
			return Answer{}, fmt.Errorf("%w: it has come to index %d: %w", wire.ErrRemote, r.Store.View().Index(), err)
		}
		if r.recount(ctx) {
			r.Suspect()
		}
		if err := ctx.Err(); err != nil {
			return Answer{}, err
		}
	}
	a := Answer{Version: fsm.DigestVersion}
	a.Digest, a.Known = r.Store.Digest(q.Index)
	if _, err := r.Fault(); err != nil {
		a.Fault = err.Error()
	}
	return a, nil
}

func (r *Replica) ask(ctx context.Context, s raft.Server, q Request, timeout time.Duration) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Scale(timeout))
	defer cancel()
	if string(s.ID) == r.Self {
		return r.Answer(ctx, r.Self, q)
	}
	return wire.Ask[Answer](ctx, r.Peers, string(s.ID), wire.Digest, q)
}

// askAll asks servers for their digests at an index, or the nearest before it, and
// returns those that can be compared with this node's.
func (r *Replica) askAll(ctx context.Context, servers []raft.Server, index uint64) map[raft.ServerID]fsm.Digest {
	answers := make([]Answer, len(servers))
	var asking sync.WaitGroup
	for i, s := range servers {
		asking.Go(func() {
			if a, err := r.ask(ctx, s, Request{Index: index}, askTimeout); err == nil {
				answers[i] = a
			}
		})
	}
	asking.Wait()
	found := make(map[raft.ServerID]fsm.Digest)
	for i, a := range answers {
		if !a.Known || a.Version != fsm.DigestVersion {
			continue
		}
		if own, ok := r.Store.Digest(a.Digest.Index); ok && own.Index == a.Digest.Index {
			found[servers[i].ID] = a.Digest
		}
	}
	return found
}

// Run compares the state with those of the voters until the node ends.
func (r *Replica) Run() {
	ctx := r.Life.Context()
	var warned time.Time
	for ctx.Err() == nil {
		lifetime.Pause(ctx, compareInterval)
		r.noticeRecount()
		if differing := r.compare(ctx); len(differing) > 0 && time.Since(warned) >= warnPause {
			warned = time.Now()
			r.Logger.Error("the state of other nodes differs from that of the majority", "nodes", differing)
		}
	}
}

// compare decides about the state, and returns who differs from a majority that
// this node belongs to.
func (r *Replica) compare(ctx context.Context) (differing []string) {
	voters := r.Servers.Voters()
	others := slices.DeleteFunc(slices.Clone(voters), func(s raft.Server) bool { return string(s.ID) == r.Self })
	own := r.Store.View().Digest()
	if own.Index == 0 || len(voters) == 0 {
		return nil
	}
	found := r.askAll(ctx, others, own.Index)
	if index := r.firstDoubt(found); index > 0 {
		// Only at one index can it be said who agrees with whom.
		found = r.askAll(ctx, others, index)
		for id, d := range found {
			if d.Index != index {
				delete(found, id)
			}
		}
		own, _ = r.Store.Digest(index)
	}
	states := make(map[string]fsm.Digest, len(voters))
	if len(others) < len(voters) {
		states[r.Self] = fsm.Digest{}
	}
	for id, d := range found {
		if here, _ := r.Store.Digest(d.Index); here == d {
			states[string(id)] = fsm.Digest{}
			continue
		}
		states[string(id)] = d
		differing = append(differing, member.NodeOf(id))
	}
	slices.Sort(differing)
	switch classify(states, len(voters)) {
	case right:
		r.dispute(nil)
		return differing
	case wrong:
		r.disown(fmt.Errorf("%w: from that of %v at log index %d", ErrDiffers, differing, own.Index))
	case disputed:
		r.dispute(fmt.Errorf("%w: this one's and that of %v at log index %d", ErrDisputed, differing, own.Index))
	}
	return nil
}

// firstDoubt returns the lowest index among digests of which some are not this
// node's, or 0 if all are.
func (r *Replica) firstDoubt(found map[raft.ServerID]fsm.Digest) uint64 {
	lowest, doubt := uint64(0), false
	for _, d := range found {
		here, _ := r.Store.Digest(d.Index)
		doubt = doubt || here != d
		if lowest == 0 || d.Index < lowest {
			lowest = d.Index
		}
	}
	if !doubt {
		return 0
	}
	return lowest
}

// judgement is the result of comparing this node's state with the others'.
type judgement int

const (
	unknown  judgement = iota // too few voters have answered, and none of them differs
	right                     // a majority of the voters has the same state
	wrong                     // a majority of the voters has one other state
	disputed                  // some voters differ, and no state has a majority
)

// classify judges this node's state by those of the voters that have answered. The
// zero digest stands for this node's own, whether it has a vote or not.
func classify(states map[string]fsm.Digest, voters int) judgement {
	counts := make(map[fsm.Digest]int)
	for _, s := range states {
		counts[s]++
	}
	same, largest := counts[fsm.Digest{}], 0
	delete(counts, fsm.Digest{})
	for _, count := range counts {
		largest = max(largest, count)
	}
	switch {
	case same > voters/2:
		return right
	case largest > voters/2:
		return wrong
	case largest > 0:
		return disputed
	}
	return unknown
}
