package cluster

import (
	"context"
	"log/slog"
	"time"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// expirePause bounds how often things that fall due one by one are expired.
const expirePause = 20 * time.Millisecond

// expiry is the leader's work of having the store remove what is due.
type expiry struct {
	store *fsm.FSM
	stamp func() int64
	log   *slog.Logger
}

// run has what is due removed: the next due time or a new view wakes it.
func (e *expiry) run(t *leadership.Term) {
	term := t.Context()
	for term.Err() == nil {
		view := e.store.View()
		due, ok := view.NextExpiry()
		switch now := e.stamp(); {
		case ok && due <= now:
			e.expire(t)
		case ok:
			ctx, cancel := context.WithTimeout(term, time.Duration(due-now)*time.Millisecond)
			e.store.Wait(ctx, view.Index()+1)
			cancel()
		default:
			e.store.Wait(term, view.Index()+1)
		}
	}
}

func (e *expiry) expire(t *leadership.Term) {
	term := t.Context()
	body, err := fsm.Expire(commandid.New()).Encode()
	if err != nil {
		e.log.Error("expiry not encoded", "error", err)
		lifetime.Pause(term, time.Second)
		return
	}
	p := batch.NewProposal(term, body, true)
	if err := t.Put(p); err != nil {
		p.Resolve(nil, err)
	}
	select {
	case o := <-p.Outcome():
		if o.Err == nil && o.Result.More {
			return
		}
	case <-term.Done():
	}
	lifetime.Pause(term, expirePause)
}
