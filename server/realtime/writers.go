package realtime

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"lockstep/server/hub"
	"lockstep/server/realtime/wire"
)

// writers write to the clients for which something waits, one after the other, each
// time as much as there is. Meanwhile more comes for those at the end of the line,
// so the more there is to write, the more goes into one write; and nobody waits
// while there is little.
//
// Where many clients stand in line, a client that was written to a moment ago and for
// which only few events wait lets them gather: a write costs far more than what is
// written, and takes the CPU from those that make the next events. Answers never
// wait for that, nor do as many events as are worth a write.
//
// They never wait for a client: one that does not take all has a goroutine of its
// own until it has.
type writers struct {
	gap time.Duration // between two writes to a client that lets events gather

	mu      sync.Mutex
	arrived sync.Cond
	idle    int // of the goroutines that run
	closed  bool

	prompt, gathering line
	promptTurn        bool        // where both lines could go on, the prompt one does
	due               *time.Timer // wakes a writer for the first one of gathering
	dueSet            bool
}

const (
	// eventGap delays an event by at most so much: less than two frames of a screen,
	// and some times as long as it takes to write to a thousand clients.
	eventGap = 30 * time.Millisecond

	// crowd is how many clients stand in line before events gather: fewer are
	// written to in less time than it would save.
	crowd = 64
)

// writerCount leaves a CPU in four, and one of two, to all that is not writing:
// where every one writes, the network is rarely looked at.
func writerCount() int { return max(1, runtime.GOMAXPROCS(0)*3/4) }

func (w *writers) init() {
	w.gap = eventGap
	w.arrived.L = &w.mu
	w.due = time.AfterFunc(time.Hour, func() {
		w.mu.Lock()
		w.dueSet = false
		w.mu.Unlock()
		w.arrived.Signal()
	})
	w.due.Stop()
}

// add puts a session at the end of a line. It must not be in one already.
func (w *writers) add(s *session, u hub.Urgency) {
	w.mu.Lock()
	s.outgoing.hurried = max(s.outgoing.hurried, u)
	if s.outgoing.hurried == hub.Prompt {
		w.prompt.push(s)
	} else {
		w.gathering.push(s)
	}
	wake := w.idle > 0
	w.mu.Unlock()
	if wake {
		w.arrived.Signal()
	}
}

// hurry has a session written to sooner, if it is in line or about to be: when it is
// its turn, with as many events as are enough, or before those that gather.
func (w *writers) hurry(s *session, u hub.Urgency) {
	w.mu.Lock()
	s.outgoing.hurried = max(s.outgoing.hurried, u)
	sooner := w.gathering.first == s
	if u == hub.Prompt && w.gathering.remove(s) {
		w.prompt.push(s)
		sooner = true
	}
	wake := sooner && w.idle > 0
	w.mu.Unlock()
	if wake {
		w.arrived.Signal()
	}
}

// take waits for the next session, and returns nil when there will be none.
func (w *writers) take() *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if s := w.next(); s != nil {
			s.outgoing.hurried = hub.CanWait
			return s
		}
		if w.closed {
			return nil
		}
		w.idle++
		w.arrived.Wait()
		w.idle--
	}
}

// next takes the first session of one of the lines, in turn, so that neither waits
// for the end of the other. It returns nil if there is none, or if the first one still
// gathers events, and then sees to it that a writer comes back.
func (w *writers) next() *session {
	w.promptTurn = !w.promptTurn
	if w.prompt.first != nil && (w.promptTurn || w.gathering.first == nil) {
		return w.prompt.pop()
	}
	if s := w.gathering.first; s != nil {
		wait := time.Duration(0)
		if w.gathering.length >= crowd && s.outgoing.hurried == hub.CanWait && !w.closed {
			wait = w.gap - time.Since(s.outgoing.sent)
		}
		if wait <= 0 {
			return w.gathering.pop()
		}
		if !w.dueSet {
			w.dueSet = true
			w.due.Reset(wait)
		}
	}
	return w.prompt.pop()
}

// line is a line of sessions, each of which is in one at most.
type line struct {
	first, last *session
	length      int
}

func (l *line) push(s *session) {
	o := &s.outgoing
	o.in, o.before, o.next = l, l.last, nil
	if l.last == nil {
		l.first = s
	} else {
		l.last.outgoing.next = s
	}
	l.last = s
	l.length++
}

// pop removes and returns the first session, or nil.
func (l *line) pop() *session {
	s := l.first
	if s != nil {
		l.remove(s)
	}
	return s
}

// remove reports whether the session was in the line.
func (l *line) remove(s *session) bool {
	o := &s.outgoing
	if o.in != l {
		return false
	}
	if o.before == nil {
		l.first = o.next
	} else {
		o.before.outgoing.next = o.next
	}
	if o.next == nil {
		l.last = o.before
	} else {
		o.next.outgoing.before = o.before
	}
	o.in, o.before, o.next = nil, nil, nil
	l.length--
	return true
}

func (w *writers) run() {
	var buffer []byte
	for s := w.take(); s != nil; s = w.take() {
		if buffer = s.write(buffer); cap(buffer) > 4*wire.WriteSize {
			buffer = nil
		}
		runtime.Gosched() // whoever else has something to do has more hurry
	}
}

// close ends the goroutines when the line is empty.
func (w *writers) close() {
	w.mu.Lock()
	w.closed = true
	w.due.Stop()
	w.mu.Unlock()
	w.arrived.Broadcast()
}

// outgoing is where a session is in writing to its client.
type outgoing struct {
	// Of the writers' lock.
	in           *line
	before, next *session // in line
	hurried      hub.Urgency

	mu    sync.Mutex
	state writing
	again bool          // there was more to write while it was unready or busy
	over  bool          // nothing is written any more
	freed chan struct{} // closed when it is not busy any more; nil: nobody waits for that

	urgency hub.Urgency // of what it is in line with, or of what there was more

	taking taking
	sent   time.Time // when something was written last

	lines uint8     // how often it was in line
	lined time.Time // since when it is, if this time is measured
}

type writing uint8

const (
	unready writing = iota // nothing is written yet
	idle                   // there is nothing to write
	inLine                 // a writer will come to it
	busy                   // some goroutine writes
)

// wake is called when there may be something to write.
func (s *session) wake(u hub.Urgency) {
	o := &s.outgoing
	o.mu.Lock()
	add, hurry := false, false
	switch {
	case o.state == inLine:
		hurry = u > o.urgency
		o.urgency = max(o.urgency, u)
	case o.state != idle:
		o.again, o.urgency = true, max(o.urgency, u)
	case !o.over:
		add = true
		o.line(u)
	}
	o.mu.Unlock()
	switch {
	case add:
		s.server.writers.add(s, u)
	case hurry:
		s.server.writers.hurry(s, u)
	}
}

// sampled is of how many writes one is measured.
const sampled = 16

// line puts it in line. The caller adds it to the writers' line, without the lock.
func (o *outgoing) line(u hub.Urgency) {
	o.state, o.urgency = inLine, u
	if o.lines++; o.lines%sampled == 1 {
		o.lined = time.Now()
	}
}

// startWriting has written what waits, and whatever comes.
func (s *session) startWriting() { s.written(false, false) }

// begin is called by a writer that has come to the session.
func (o *outgoing) begin() (ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		o.state = idle
		return false
	}
	o.state, o.again, o.urgency = busy, false, hub.CanWait
	return true
}

// written is called when the session is not busy any more: it goes to the end of the
// line if there is more to write.
func (s *session) written(more bool, over bool) {
	o := &s.outgoing
	o.mu.Lock()
	o.over = o.over || over
	o.state = idle
	add, urgency := (more || o.again) && !o.over, o.urgency
	if more {
		urgency = hub.Prompt
	}
	if add {
		o.line(urgency)
	}
	if o.freed != nil {
		close(o.freed)
		o.freed = nil
	}
	o.mu.Unlock()
	if add {
		s.server.writers.add(s, urgency)
	}
}

// stopWriting waits for what is being written, and has nothing more written.
func (s *session) stopWriting() {
	o := &s.outgoing
	o.mu.Lock()
	o.over = true
	var freed chan struct{}
	if o.state == busy {
		freed = make(chan struct{})
		o.freed = freed
	}
	o.mu.Unlock()
	if freed != nil {
		<-freed
	}
}

// silentSince returns since when nothing has been written to the client, which is
// now if something is about to be.
func (o *outgoing) silentSince(now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != idle || o.over {
		return now
	}
	return o.sent
}

// write sends what waits, as much as goes into one write. It uses a buffer, and
// returns it.
func (s *session) write(buffer []byte) []byte {
	if !s.outgoing.begin() {
		return buffer
	}
	more, over := false, true
	handed := false // to another goroutine
	defer func() {
		if !handed {
			s.written(more, over)
		}
	}()
	defer s.config.Panics.Catch("writer", func(error) { s.fault() })
	b, last := s.queue.Fill(buffer[:0], wire.WriteSize)
	if len(b) == 0 && !last {
		s.outgoing.lined, over = time.Time{}, false
		return b
	}
	s.bytesOut.Add(int64(len(b)))
	n, err := s.conn.Offer(b)
	if n < len(b) && err == nil {
		rest, size := slices.Clone(b[n:]), len(b)
		handed = true
		s.server.work.Go(func() { s.writeRest(rest, size, last) })
		return b
	}
	more, over = s.afterWrite(len(b), last, err)
	return b
}

// writeRest waits for a client that does not take at once what is sent.
func (s *session) writeRest(rest []byte, size int, last bool) {
	more, over := false, true
	defer func() { s.written(more, over) }()
	defer s.config.Panics.Catch("writer", func(error) { s.fault() })
	err := s.conn.Write(rest)
	more, over = s.afterWrite(size, last, err)
}

// afterWrite looks at what became of a write of so many bytes.
func (s *session) afterWrite(size int, last bool, err error) (more, over bool) {
	if err != nil || last {
		s.sent(err)
		return false, true
	}
	s.outgoing.sent = time.Now()
	waiting := s.answers.written(s)
	s.outgoing.measure(s.server.metrics, waiting)
	if s.outgoing.taking.tooSlow(s.config, size, waiting) {
		s.sent(errSlow)
		return false, true
	}
	return size >= wire.WriteSize, false
}

// measure tells how long the write took that is done, if that is measured, and how
// much waits behind it.
func (o *outgoing) measure(m *metrics, waiting int) {
	if o.lined.IsZero() {
		return
	}
	m.written.Observe(o.sent.Sub(o.lined).Seconds())
	m.waiting.Observe(float64(waiting))
	o.lined = time.Time{}
}

// lookAtAll sends a ping to each client that was not written to for a while, and ends
// the sessions of clients that rest and have given no sign of life. It sleeps until
// that may be so of one, and at least for a short time.
func (s *Server) lookAtAll() {
	interval := min(s.config.PingInterval, s.config.SilenceTimeout)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		now := time.Now()
		look := s.look(now, now.Add(interval))
		for _, x := range look.unwritten {
			x.queue.Push(wire.Ping())
		}
		for _, x := range look.silent {
			x.silent()
		}
		timer.Reset(max(look.next.Sub(now), interval/64))
	}
}

// look is what is to be done about clients.
type look struct {
	unwritten []*session // it is time to send them a ping
	silent    []*session // they have given no sign of life
	next      time.Time  // to look again
}

func (s *Server) look(now, next time.Time) look {
	l := look{next: next}
	sooner := func(t time.Time) {
		if t.Before(l.next) {
			l.next = t
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		if !x.introduced.Load() {
			continue
		}
		switch overdue, due := x.conn.Overdue(now); {
		case overdue:
			l.silent = append(l.silent, x)
			continue
		case !due.IsZero():
			sooner(due)
		}
		if due := x.outgoing.silentSince(now).Add(s.config.PingInterval); due.After(now) {
			sooner(due)
		} else {
			l.unwritten = append(l.unwritten, x)
		}
	}
	return l
}

var errSlow = errors.New("the client takes too little")
