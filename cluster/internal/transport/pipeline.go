package transport

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

var errPipelineBroken = errors.New("cluster: the follower refused an earlier entry of this pipeline")

// pipeline is raft's pipeline to one follower, but takes nothing more once the
// follower has refused something.
//
// Raft's own (hashicorp/raft#612) can wait for ever then: the goroutine that
// reads the answers has gone, nobody empties the queue of what is under way,
// and the sender waits for room in it. The follower is never sent an entry
// again, while heartbeats go on, and the leader cannot be stopped. Doing
// without pipelines would help, too, but costs throughput.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	broken  chan struct{} // closed before the first refusal is passed on
	closed  chan struct{}
	closing sync.Once
	work    sync.WaitGroup
}

// AppendEntriesPipeline implements raft.Transport.
func (t *Retrying) AppendEntriesPipeline(id raft.ServerID, addr raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.NetworkTransport.AppendEntriesPipeline(id, addr)
	if err != nil {
		return nil, err
	}
	return newPipeline(inner), nil
}

func newPipeline(inner raft.AppendPipeline) *pipeline {
	p := &pipeline{
		AppendPipeline: inner, answers: make(chan raft.AppendFuture),
		broken: make(chan struct{}), closed: make(chan struct{}),
	}
	p.work.Go(p.pass)
	return p
}

// pass passes answers on up to the first refusal, and drops those after it.
func (p *pipeline) pass() {
	refused := false
	for {
		var answer raft.AppendFuture
		select {
		case answer = <-p.AppendPipeline.Consumer():
		case <-p.closed:
			return
		}
		if refused {
			continue
		}
		if !answer.Response().Success {
			refused = true
			close(p.broken)
		}
		select {
		case p.answers <- answer:
		case <-p.closed:
			return
		}
	}
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case <-p.broken:
		return nil, errPipelineBroken
	default:
		return p.AppendPipeline.AppendEntries(args, resp)
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.closing.Do(func() { close(p.closed) })
	err := p.AppendPipeline.Close()
	p.work.Wait()
	return err
}
