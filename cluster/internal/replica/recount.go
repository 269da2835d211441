package replica

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
)

// A sum that does not match is the store's own fault if it is off by the same on a
// majority of the nodes: memory that is altered by chance differs from node to node.
// The records are what the log says then, and only the sum is wrong: the leader has
// every node make it anew, at one log index, and all go on serving. If any other
// node's sum matches, the log does not lead to what this one has: its memory was
// altered, and it serves nothing until it is started again. Who hears from too few
// others serves nothing until it does. A cluster of one asks its disk: it keeps how
// far its sum was off, and when its next process comes to the same sum, by the log,
// it was not its memory.
//
// A snapshot is never written with a wrong sum, so it is read with a right one only.

// CountRequest asks a member to add its state up.
type CountRequest struct {
	Index uint64 `cbor:"1,keyasint"` // which it has to have applied
}

// Count is what adding a state up came to.
type Count struct {
	Index     uint64 `cbor:"1,keyasint"` // of the last entry in the state
	Drift     uint64 `cbor:"2,keyasint"` // how far it is from the sum that was kept
	Recounted uint64 `cbor:"3,keyasint"` // index at which all nodes made their sums anew last
	Fault     string `cbor:"4,keyasint,omitempty"`
}

// AnswerCount answers another member. A sum that does not match has this node ask
// the others, too.
func (r *Replica) AnswerCount(ctx context.Context, _ string, q CountRequest) (Count, error) {
	if _, err := r.Store.Wait(ctx, q.Index); err != nil {
		return Count{}, fmt.Errorf("%w: it has come to index %d: %w", wire.ErrRemote, r.Store.View().Index(), err)
	}
	c, err := r.count(ctx)
	if err == nil && c.Drift != 0 {
		r.Suspect()
	}
	return c, err
}

// count adds the whole state up anew, once at a time.
func (r *Replica) count(ctx context.Context) (Count, error) {
	select {
	case r.recounting <- struct{}{}:
		defer func() { <-r.recounting }()
	case <-ctx.Done():
		return Count{}, ctx.Err()
	}
	view := r.Store.View()
	c := Count{Index: view.Index(), Drift: view.Drift(), Recounted: view.Recounts().Last}
	if f, _ := r.fault.Get(); f.final {
		c.Fault = f.err.Error()
	}
	return c, nil
}

// Suspect has the state added up soon.
func (r *Replica) Suspect() {
	select {
	case r.suspected <- struct{}{}:
	default: // it will be
	}
}

// RunRecount looks now and then, until the node ends, whether the state is still
// what was put there.
func (r *Replica) RunRecount() {
	ctx := r.Life.Context()
	select {
	case <-r.Ready:
	case <-ctx.Done():
	}
	for ctx.Err() == nil {
		pause, cancel := context.WithTimeout(ctx, lifetime.Jitter(recountInterval))
		select {
		case <-r.suspected:
		case <-pause.Done():
		}
		cancel()
		for r.recount(ctx) && ctx.Err() == nil {
			lifetime.Pause(ctx, recountPause)
		}
	}
}

// recount adds the state up, decides what it means if the sum is not the one that
// was kept, and reports whether it has to be looked at again.
func (r *Replica) recount(ctx context.Context) (again bool) {
	select {
	case <-r.Ready:
	default: // what the process before this one came to is not there yet
		return false
	}
	select { // one after the other, since each may end in a recount by all
	case r.judging <- struct{}{}:
		defer func() { <-r.judging }()
	case <-ctx.Done():
		return false
	}
	own, err := r.count(ctx)
	switch {
	case err != nil || r.Wrong():
		return false
	case own.Drift == 0:
		r.remember(0)
		r.doubt(false)
		return false
	}
	switch r.judge(ctx, own) {
	case altered:
		if len(r.Servers.All()) == 1 {
			r.remember(own.Drift)
		}
		r.disown(fmt.Errorf("%w: added up at log index %d", ErrAltered, own.Index))
		return false
	case sound:
		r.correct(ctx, own)
	case unsure:
		r.doubt(true)
	}
	return true
}

// correct has the sums of all nodes made anew, if this node leads. The records are
// right, and served meanwhile.
func (r *Replica) correct(ctx context.Context, own Count) {
	r.doubt(false)
	if !r.Leads() {
		return
	}
	r.Logger.Error("records were changed without the sum that is kept of them, on a majority of the nodes alike: all make it anew", "index", own.Index, "drift", own.Drift)
	ctx, cancel := context.WithTimeout(ctx, r.Scale(verifyTimeout))
	defer cancel()
	if err := r.Recount(ctx); err != nil {
		r.Logger.Warn("sums not made anew", "error", err)
	}
}

// judge asks the others for their sums, and says what this node's own one, which
// does not match, is worth. While they take long to answer, it is in doubt.
func (r *Replica) judge(ctx context.Context, own Count) verdict {
	ctx, cancel := context.WithTimeout(ctx, r.Scale(verifyTimeout))
	defer cancel()
	voters := make(map[raft.ServerID]bool)
	for _, s := range r.Servers.Voters() {
		voters[s.ID] = true
	}
	p := &poll{own: own, voters: len(voters), twice: r.Drift == own.Drift}
	if voters[raft.ServerID(r.Self)] {
		p.agree++
	}
	type reply struct {
		from raft.ServerID
		Count
		err error
	}
	replies := make(chan reply)
	for _, s := range r.Servers.All() {
		if string(s.ID) == r.Self {
			continue
		}
		p.expect(voters[s.ID])
		if err := r.Life.Go(func() {
			c, err := wire.Ask[Count](ctx, r.Peers, string(s.ID), wire.Count, CountRequest{Index: own.Index})
			select {
			case replies <- reply{s.ID, c, err}:
			case <-ctx.Done():
			}
		}); err != nil {
			return unsure
		}
	}
	late, stop := context.WithTimeout(ctx, r.Scale(doubtAfter))
	defer stop()
	doubtful := late.Done()
	for p.pending > 0 && p.verdict() == unsure {
		select {
		case c := <-replies:
			p.add(c.Count, voters[c.from], c.err)
		case <-doubtful:
			doubtful = nil
			r.doubt(true)
		case <-ctx.Done():
			return unsure
		}
	}
	return p.verdict()
}

// verdict is what a sum that does not match is worth.
type verdict int

const (
	unsure  verdict = iota
	sound           // the records are right, and the sum is wrong
	altered         // the records are not what was put there
	past            // sums were made anew meanwhile
)

// poll gathers what adding up came to elsewhere.
type poll struct {
	own    Count
	voters int
	agree  int  // voters that are off by as much, this one included
	twice  bool // somebody else is, or an earlier process of this server was

	pending, pendingVoters int // who have not answered
	others                 int // who have, or cannot

	matches bool // somebody's sum is right
	past    bool // somebody's was made anew since
}

// expect has the poll wait for another server.
func (p *poll) expect(votes bool) {
	p.pending++
	if votes {
		p.pendingVoters++
	}
}

// add has the poll take in what another server says.
func (p *poll) add(c Count, votes bool, err error) {
	p.pending--
	p.others++
	if votes {
		p.pendingVoters--
	}
	switch {
	case err != nil || c.Fault != "":
	case c.Recounted > p.own.Index:
		p.past = true
	case c.Drift == 0:
		p.matches = true
	case c.Drift == p.own.Drift:
		p.twice = true
		if votes {
			p.agree++
		}
	}
}

func (p *poll) verdict() verdict {
	hope := 2*(p.agree+p.pendingVoters) > p.voters && (p.twice || p.pending > 0)
	switch {
	case 2*p.agree > p.voters && p.twice:
		return sound
	case p.past:
		return past
	case !hope && (p.matches || p.others+p.pending == 0):
		return altered
	}
	return unsure
}

// doubt notes that nobody knows whether this node's state is right, or that it is.
func (r *Replica) doubt(doubted bool) {
	was := r.fault.Update(func(was fault) fault {
		switch {
		case was.final || was.sum == doubted:
			return was
		case doubted:
			return fault{err: ErrUnsure, sum: true}
		}
		return fault{}
	})
	switch {
	case was.final || was.sum == doubted:
	case doubted:
		r.Logger.Error("this node serves no more until others say whether their sums match", "error", ErrUnsure)
	default:
		r.Logger.Info("this node serves again: its records are right")
	}
}

// remember keeps how far the sum is off for the next process, if it is known to be
// another number.
func (r *Replica) remember(drift uint64) {
	if r.kept == drift {
		return
	}
	if err := r.KeepDrift(drift); err != nil {
		r.Logger.Error("how far the sum of the state is off is not kept for the next start", "error", err)
		return
	}
	r.kept = drift
}

// noticeRecount tells of recounts by all nodes that found the sum wrong.
func (r *Replica) noticeRecount() {
	recounts := r.Store.View().Recounts()
	if recounts.Wrong > r.noticed {
		r.Logger.Error("the sum that was kept of the state was wrong, and is made anew: a fault of this release, which the records do not suffer from", "index", recounts.Last, "drift", recounts.Drift)
	}
	r.noticed = recounts.Wrong
}
