package realtime

import (
	"context"
	"sync"

	"lockstep/fsm"
)

// turn is a request's place among those that share one of its keys.
type turn struct {
	of      *requests
	keys    []orderKey
	room    [2]orderKey // for them
	earlier []earlier
	lane    *lane // of a write to an object; nil: it waits until earlier ones are done

	// Of the lock of the requests. The channels are made for those that wait.
	inLine bool          // its write is, or it is done
	lined  chan struct{} // closed when it is in line
	done   chan struct{} // closed when it is answered
}

// earlier is what a request waits for of an earlier one.
type earlier struct {
	begin  <-chan struct{} // before it begins; nil: nothing
	answer <-chan struct{} // before it is answered
}

// before returns what a later request waits for. It is called with the lock held.
func (t *turn) before(later *turn) earlier {
	if t.done == nil {
		t.done = make(chan struct{})
	}
	if t.lane == nil || t.lane != later.lane {
		return earlier{begin: t.done, answer: t.done}
	}
	if t.lined == nil && !t.inLine {
		t.lined = make(chan struct{})
	}
	return earlier{begin: t.lined, answer: t.done}
}

// await waits until the request may begin.
func (t *turn) await() {
	for _, e := range t.earlier {
		if e.begin != nil {
			<-e.begin
		}
	}
}

// awaitAnswers waits until the request may be answered.
func (t *turn) awaitAnswers() {
	for _, e := range t.earlier {
		<-e.answer
	}
}

func (t *turn) enterLine() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.entered()
}

// entered is called with the lock held.
func (t *turn) entered() {
	if !t.inLine {
		t.inLine = true
		if t.lined != nil {
			close(t.lined)
		}
	}
}

// propose has a command decided, behind those that entered the lane before.
func (t *turn) propose(ctx context.Context, s *session, c *fsm.Command) (*fsm.Result, error) {
	l := t.lane
	if l == nil {
		return s.config.Node.Propose(ctx, c)
	}
	l.mu.Lock()
	if !l.busy {
		l.busy = true
		l.mu.Unlock()
		t.enterLine()
		defer l.next(s)
		return s.config.Node.Propose(ctx, c)
	}
	w := &waitingWrite{ctx: ctx, command: c, outcome: make(chan outcome, 1)}
	l.waiting = append(l.waiting, w)
	l.mu.Unlock()
	t.enterLine()
	select {
	case o := <-w.outcome:
		return o.result, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lane is the writes of one session to one object. Those that come while others are
// under way wait for them, and then go together: into one log entry, in their order.
// So no leader has a later one and not the earlier one, and a client that does not
// wait for answers is not slowed down to one write a log entry.
type lane struct {
	key   orderKey
	users int // guarded by requests.mu

	mu      sync.Mutex
	busy    bool
	waiting []*waitingWrite
}

// waitingWrite is a write that waits, as long as its context allows.
type waitingWrite struct {
	ctx     context.Context
	command *fsm.Command
	outcome chan outcome // one slot
}

type outcome struct {
	result *fsm.Result
	err    error
}

// next is called when what was under way has its outcome: it has those written that
// wait.
func (l *lane) next(s *session) {
	if group := l.take(); len(group) > 0 {
		s.requests.running.Go(func() {
			for ; len(group) > 0; group = l.take() {
				s.proposeAll(group)
			}
		})
	}
}

// take returns those that wait, whose clients still wait for them.
func (l *lane) take() (group []*waitingWrite) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.waiting {
		if w.ctx.Err() == nil {
			group = append(group, w)
		}
	}
	l.waiting, l.busy = nil, len(group) > 0
	return group
}

func (s *session) proposeAll(group []*waitingWrite) {
	defer s.config.Panics.Catch("request", func(fault error) {
		for _, w := range group {
			select {
			case w.outcome <- outcome{err: fault}:
			default:
			}
		}
	})
	ctx, cancel := context.WithTimeout(s.ctx, s.config.RequestTimeout)
	defer cancel()
	commands := make([]*fsm.Command, len(group))
	for i, w := range group {
		commands[i] = w.command
	}
	s.config.Node.ProposeAll(ctx, commands, func(i int, r *fsm.Result, err error) { group[i].outcome <- outcome{r, err} })
}
