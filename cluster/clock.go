package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
)

const (
	// clockInterval is how often the voters compare their clocks.
	clockInterval = time.Second
	// clockWarn is a difference between clocks that an operator should know of,
	// told once in clockWarnPause.
	clockWarn      = time.Second
	clockWarnPause = time.Minute
	// clockFar is a difference beyond which a clock is not believed.
	clockFar = 10 * time.Second
	// yieldPause is the pause before leadership is handed over again when that
	// failed: until then all requests to the other node that were under way have
	// ended. Raft never ends a second transfer whose target still has the first one
	// to see to when the leader steps down.
	yieldPause = 2 * transportTimeout
	// steering is the part of the time passed by which the cluster's clock is
	// moved towards the clocks of its nodes: a tenth.
	steering = 10
)

// clock is the cluster's time, as this node carries it on. It passes with the
// monotonic clock, so that a step of the machine's clock is no step of it, and is
// steered slowly towards the machine's clock while a majority of the voters
// agrees with that. It is taken over from whoever leads, so that a new leader
// goes on where the last one was. It jumps only when nobody has carried it on,
// since the whole cluster was down: then to what the clocks of the voters say.
type clock struct {
	wall  func() time.Time
	start time.Time // origin of the monotonic readings

	mu     sync.Mutex
	known  bool          // the time is carried on, not only what the log says
	time   time.Duration // since 1970
	at     time.Duration // monotonic reading at that time
	agreed bool          // a majority agrees with the machine's clock
	far    bool          // a majority has it that the machine's clock is far off
}

func newClock(wall func() time.Time) *clock { return &clock{wall: wall, start: time.Now()} }

// now returns the machine's clock.
func (c *clock) now() time.Duration { return time.Duration(c.wall().UnixNano()) }

// advance moves the time on to this moment.
func (c *clock) advance() {
	reading := time.Since(c.start)
	passed := reading - c.at
	c.time += passed
	c.at = reading
	if c.agreed {
		c.time += min(max(c.now()-c.time, -passed/steering), passed/steering)
	}
}

// stamp returns the time for a batch of the leader, not before earliest, both in
// Unix milliseconds.
func (c *clock) stamp(earliest int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	c.time = max(c.time, time.Duration(earliest)*time.Millisecond)
	return c.time.Milliseconds()
}

// read returns the time, if it is known.
func (c *clock) read() (now time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance()
	return c.time, c.known
}

// set takes the time over.
func (c *clock) set(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time, c.at, c.known = now, time.Since(c.start), true
}

func (c *clock) judge(agreed, far bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agreed, c.far = agreed, far
}

// farOff reports whether a majority has it that the machine's clock is far off.
func (c *clock) farOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.far
}

// offset returns how far the machine's clock is ahead of the cluster's.
func (c *clock) offset() time.Duration {
	now, known := c.read()
	if !known {
		return 0
	}
	return c.now() - now
}

// ClockOffset returns how far this machine's clock is ahead of the cluster's
// time, and whether a majority has it that the clock is wrong: such a node does
// not lead.
func (n *Node) ClockOffset() (ahead time.Duration, farOff bool) {
	return n.clock.offset(), n.clock.farOff()
}

// stamp is the time for a batch, in Unix milliseconds. The store's time never
// goes backwards, so neither does the stamp.
func (n *Node) stamp() int64 { return n.clock.stamp(n.fsm.View().Time()) }

// peerClock is what another voter told of its clocks, as of this moment.
type peerClock struct {
	server raft.Server
	offset time.Duration // of its machine's clock from this one's
	log    uint64        // last index
	leads  bool
	time   time.Duration // the cluster's, if it knows it; else 0
}

// askClocks asks the other voters for their clocks. Half of the time that an
// answer took is how old it is, about.
func (n *Node) askClocks(ctx context.Context) []peerClock {
	others := slices.DeleteFunc(n.members.Voters(), func(s raft.Server) bool { return string(s.ID) == n.self })
	answers := make([]*peerClock, len(others))
	var asking sync.WaitGroup
	for i, s := range others {
		asking.Go(func() {
			sent := time.Now()
			r, err := n.statusOf(ctx, string(s.ID))
			if err != nil {
				return
			}
			age := time.Since(sent) / 2
			p := &peerClock{server: s, offset: r.Clock + age - n.clock.now(), log: r.LastIndex, leads: r.Role == RoleLeader}
			if r.ClusterClock != 0 {
				p.time = r.ClusterClock + age
			}
			answers[i] = p
		})
	}
	asking.Wait()
	var peers []peerClock
	for _, p := range answers {
		if p != nil {
			peers = append(peers, *p)
		}
	}
	return peers
}

// startClock sees to it that a leader knows the time before its first stamp. One
// that has carried it on does. One that was just started asks who else has; if
// nobody has, the cluster was down, and the clocks of the voters that are up say
// for how long: the middle one, or the earlier of the two in the middle.
func (n *Node) startClock(ctx context.Context) {
	if _, known := n.clock.read(); known {
		return
	}
	var carried time.Duration
	walls := []time.Duration{n.clock.now()}
	for _, p := range n.askClocks(ctx) {
		carried = max(carried, p.time)
		walls = append(walls, walls[0]+p.offset)
	}
	slices.Sort(walls)
	if carried == 0 {
		carried = walls[(len(walls)-1)/2]
	}
	n.clock.set(carried)
}

// watchClock compares this node's clock with those of the other voters, follows
// the time of whoever leads, and hands leadership over when this node's clock is
// far off.
func (n *Node) watchClock() {
	var warned, yielded time.Time
	for {
		lifetime.Pause(n.life.Context(), clockInterval)
		if n.life.Context().Err() != nil {
			return
		}
		peers := n.askClocks(n.life.Context())
		leads := n.raft.State() == raft.Leader
		for _, p := range peers {
			if p.leads && p.time != 0 && !leads {
				n.clock.set(p.time)
			}
		}
		agreed, far := n.judgeClock(peers)
		n.clock.judge(agreed, far)
		if time.Since(warned) >= clockWarnPause && n.warnOfClocks(peers, far) {
			warned = time.Now()
		}
		if far && leads && time.Since(yielded) >= yieldPause {
			n.yield(peers)
			yielded = time.Now()
		}
	}
}

// judgeClock decides whether a majority of the voters agrees with this machine's
// clock, and whether a majority has it that it is far off: clocks that agree with
// each other and not with this one. The cluster's time has a voice in that, so
// that of two nodes the wrong one is known.
func (n *Node) judgeClock(peers []peerClock) (agreed, far bool) {
	voters := len(n.members.Voters())
	var against []time.Duration
	for _, p := range peers {
		against = append(against, p.offset)
	}
	near := func(d time.Duration) bool { return d.Abs() <= clockFar }
	with := 1
	for _, d := range against {
		if near(d) {
			with++
		}
	}
	if now, known := n.clock.read(); known && voters > 1 {
		against = append(against, now-n.clock.now())
	}
	against = slices.DeleteFunc(against, near)
	return with > voters/2, largestGroup(against, clockFar) > voters/2
}

// largestGroup returns how many of the values, at most, are within a width of one
// of them.
func largestGroup(values []time.Duration, width time.Duration) (size int) {
	for _, middle := range values {
		group := 0
		for _, x := range values {
			if (x - middle).Abs() <= width {
				group++
			}
		}
		size = max(size, group)
	}
	return size
}

// warnOfClocks logs clocks that differ, and reports whether some do.
func (n *Node) warnOfClocks(peers []peerClock, far bool) bool {
	if far {
		n.config.Logger.Error("this machine's clock is wrong: a majority of the nodes agrees on another time; this node does not lead until it is right", "ahead", n.clock.offset())
		return true
	}
	for _, p := range peers {
		if p.offset.Abs() > clockWarn {
			n.config.Logger.Warn("clocks differ", "other", member.NodeOf(p.server.ID), "ahead", p.offset)
			return true
		}
	}
	return false
}

// yield hands leadership to the voter with the longest log among those whose
// clocks differ from this one's, which is wrong.
func (n *Node) yield(peers []peerClock) {
	var to *peerClock
	for i, p := range peers {
		if p.offset.Abs() > clockFar && (to == nil || p.log > to.log) {
			to = &peers[i]
		}
	}
	if to == nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.life.Context(), 2*n.config.electionTimeout())
	defer cancel()
	if err := n.transferTo(ctx, to.server); err != nil {
		n.config.Logger.Warn("leadership not handed over", "error", err)
	}
}
