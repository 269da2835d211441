package proposer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// groupsUnderWay is the number of requests from a node to the leader at a time. It
// does not limit throughput, because commands proposed meanwhile share the next one.
const groupsUnderWay = 128

// errFewOutcomes: the leader has answered for fewer commands than were sent.
var errFewOutcomes = errors.New("outcomes are missing")

// Run forwards this node's proposals to the leader until the node ends. A server
// that does not lead says so and never forwards in turn.
func (p *Proposer) Run() {
	ctx := p.Life.Context()
	var underWay sync.WaitGroup
	defer underWay.Wait()
	defer p.forwarded.Close(wire.ErrClosed)
	free := make(chan struct{}, groupsUnderWay)
	epoch := p.newLeaderEpoch()
	defer func() { epoch.end() }()
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		group := p.forwarded.Take(ctx)
		if group == nil {
			return
		}
		if epoch.ctx.Err() != nil {
			epoch.end()
			epoch = p.newLeaderEpoch()
		}
		current := epoch
		underWay.Go(func() {
			p.forward(current, group)
			<-free
		})
	}
}

// leaderEpoch is the time during which one leader is known. Requests to the leader
// do not outlast it: one that has been replaced may be paused and never answer.
type leaderEpoch struct {
	state leadership.State
	ctx   context.Context
	end   func()
}

func (p *Proposer) newLeaderEpoch() *leaderEpoch {
	state, changed := p.Leadership.State()
	ctx, end := lifetime.Until(p.Life.Context(), changed)
	return &leaderEpoch{state, ctx, end}
}

// forward asks the leader for the outcomes of a group.
func (p *Proposer) forward(e *leaderEpoch, group []*batch.Proposal) {
	if e.state.Leader == "" || e.state.Leader == p.Self {
		batch.Fail(group, wire.ErrNotLeader)
		return
	}
	ctx, cancel := context.WithDeadline(e.ctx, lastDeadline(group))
	defer cancel()
	begun := time.Now()
	answer, err := p.send(ctx, e.state.Leader, group)
	if err != nil {
		batch.Fail(group, err)
		return
	}
	p.Forwarded(time.Since(begun))
	p.recordForward(group, begun)
	outcomes, err := DecodeOutcomes(answer)
	for i, attempt := range group {
		if i >= len(outcomes) {
			attempt.Resolve(nil, fmt.Errorf("%w: %w", wire.ErrRemote, cmp.Or(err, errFewOutcomes)))
			continue
		}
		attempt.Resolve(outcomes[i].Result, outcomes[i].Err)
	}
}

// send asks the leader to have a group written. Which of its commands are followed it
// tells only when some are, and not to a leader that does not know of it.
func (p *Proposer) send(ctx context.Context, leader string, group []*batch.Proposal) ([]byte, error) {
	body := EncodeProposals(group)
	if spans := encodeSpans(group); spans != nil {
		answer, err := wire.Call(ctx, p.Peers, leader, wire.ProposeTraced, append(wire.AppendBytes(nil, spans), body...))
		if !errors.Is(err, wire.ErrBadRequest) {
			return answer, err
		}
	}
	return wire.Call(ctx, p.Peers, leader, wire.Propose, body)
}

func (p *Proposer) recordForward(group []*batch.Proposal, begun time.Time) {
	for _, attempt := range group {
		if attempt.Span != nil {
			p.Record(attempt.Span, "forward", begun, time.Now())
		}
	}
}

// lastDeadline returns the time until which some caller waits for the group.
func lastDeadline(group []*batch.Proposal) time.Time {
	var last time.Time
	for _, p := range group {
		if d, ok := p.Context().Deadline(); ok && d.After(last) {
			last = d
		}
	}
	return last
}

// Answer writes the commands that another node forwards, in one log entry: some of
// them may have to take effect in their order, or not at all. It is a wire.Handler.
func (p *Proposer) Answer(ctx context.Context, _ string, body []byte) ([]byte, error) {
	t, err := p.Leadership.Started(ctx)
	if err != nil {
		return nil, err
	}
	group, err := decodeProposals(ctx, body)
	if err != nil {
		return nil, err
	}
	return p.answerGroup(ctx, t, group), nil
}

// AnswerTraced is Answer for a group of which some commands are followed.
func (p *Proposer) AnswerTraced(ctx context.Context, _ string, body []byte) ([]byte, error) {
	t, err := p.Leadership.Started(ctx)
	if err != nil {
		return nil, err
	}
	spans, body, err := wire.CutBytes(body)
	if err != nil {
		return nil, err
	}
	group, err := decodeProposals(ctx, body)
	if err != nil {
		return nil, err
	}
	if p.Follows != nil { // this node sends traces, too
		if err := decodeSpans(spans, group); err != nil {
			return nil, err
		}
	}
	return p.answerGroup(ctx, t, group), nil
}

func (p *Proposer) answerGroup(ctx context.Context, t *leadership.Term, group []*batch.Proposal) (answer []byte) {
	sound, commands := make([]*batch.Proposal, 0, len(group)), make([]*fsm.Command, 0, len(group))
	for _, attempt := range group {
		c, err := fsm.DecodeCommand(attempt.Body)
		if err != nil {
			attempt.Resolve(nil, fmt.Errorf("%w: %w", wire.ErrBadRequest, err))
			continue
		}
		sound, commands = append(sound, attempt), append(commands, c)
	}
	p.submitAll(t, sound, commands)
	for _, attempt := range group {
		select {
		case o := <-attempt.Outcome():
			answer = encodeOutcome(answer, o)
		case <-ctx.Done():
			answer = encodeOutcome(answer, batch.Outcome{Err: fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, ctx.Err())})
		}
	}
	return answer
}
