package clock

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
)

// Keeper compares a node's clock with those of the others. Every field is required.
type Keeper struct {
	Self   string // this server
	Clock  *Clock
	Voters func() []raft.Server
	Survey *status.Survey
	Leads  func() bool // this node leads now
	Life   *lifetime.Lifetime
	Logger *slog.Logger

	// Heard is called, each time, with what the voters that answered say of
	// themselves.
	Heard func(others []status.Node)

	// HandOver hands leadership to another voter; Timeout bounds it.
	HandOver func(ctx context.Context, to raft.Server) error
	Timeout  time.Duration
}

// peerClock is what another voter told of its clocks, as of this moment.
type peerClock struct {
	server raft.Server
	offset time.Duration // of its machine's clock from this one's
	log    status.LogEnd
	leads  bool
	time   time.Duration // the cluster's, if it knows it; else 0
	all    status.Node
}

// ask asks the other voters for their clocks. An answer is taken to be as old
// as half of the time that it took.
func (k *Keeper) ask(ctx context.Context) []peerClock {
	others := slices.DeleteFunc(k.Voters(), func(s raft.Server) bool { return string(s.ID) == k.Self })
	answers := make([]*peerClock, len(others))
	var asking sync.WaitGroup
	for i, s := range others {
		asking.Go(func() {
			sent := time.Now()
			r, err := k.Survey.Of(ctx, string(s.ID))
			if err != nil {
				return
			}
			age := time.Since(sent) / 2
			p := &peerClock{server: s, offset: r.Clock + age - k.Clock.Now(), log: r.LogEnd(), leads: r.Role == status.Leader, all: r}
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

// Prepare makes sure that a leader knows the time before its first stamp. One
// that has carried it on does. One that has just started asks the others; if
// none has, the cluster was down, and the time is that of the middle one of the
// clocks of the voters that are up, or of the earlier of the two in the middle.
func (k *Keeper) Prepare(ctx context.Context) {
	if _, known := k.Clock.Read(); known {
		return
	}
	var carried time.Duration
	walls := []time.Duration{k.Clock.Now()}
	for _, p := range k.ask(ctx) {
		carried = max(carried, p.time)
		walls = append(walls, walls[0]+p.offset)
	}
	slices.Sort(walls)
	if carried == 0 {
		carried = walls[(len(walls)-1)/2]
	}
	k.Clock.Set(carried)
}

// Watch compares this node's clock with those of the other voters, follows
// the time of the leader, and hands leadership over when this node's clock is
// far off.
func (k *Keeper) Watch() {
	var warned, yielded time.Time
	for {
		lifetime.Pause(k.Life.Context(), interval)
		if k.Life.Context().Err() != nil {
			return
		}
		peers := k.ask(k.Life.Context())
		var others []status.Node
		for _, p := range peers {
			others = append(others, p.all)
		}
		k.Heard(others)
		leads := k.Leads()
		for _, p := range peers {
			if p.leads && p.time != 0 && !leads {
				k.Clock.Set(p.time)
			}
		}
		agreed, far := k.compare(peers)
		k.Clock.decideSteering(agreed, far)
		if time.Since(warned) >= warnPause && k.warn(peers, far) {
			warned = time.Now()
		}
		if far && leads && time.Since(yielded) >= yieldPause {
			k.yield(peers)
			yielded = time.Now()
		}
	}
}

// compare decides whether a majority of the voters agrees with this machine's
// clock, and whether a majority finds it far off: clocks that agree with each
// other and not with this one. The cluster's time counts as one more, so that
// of two nodes the wrong one is known.
func (k *Keeper) compare(peers []peerClock) (agreed, far bool) {
	voters := len(k.Voters())
	var against []time.Duration
	for _, p := range peers {
		against = append(against, p.offset)
	}
	near := func(d time.Duration) bool { return d.Abs() <= farAt }
	with := 1
	for _, d := range against {
		if near(d) {
			with++
		}
	}
	if now, known := k.Clock.Read(); known && voters > 1 {
		against = append(against, now-k.Clock.Now())
	}
	against = slices.DeleteFunc(against, near)
	return with > voters/2, largestGroup(against, farAt) > voters/2
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

// warn logs clocks that differ, and reports whether some do.
func (k *Keeper) warn(peers []peerClock, far bool) bool {
	if far {
		k.Logger.Error("this machine's clock is wrong: a majority of the nodes agrees on another time; this node does not lead until it is right", "ahead", k.Clock.Offset())
		return true
	}
	for _, p := range peers {
		if p.offset.Abs() > warnAt {
			k.Logger.Warn("clocks differ", "other", member.NodeOf(p.server.ID), "ahead", p.offset)
			return true
		}
	}
	return false
}

// yield hands leadership to the voter with the newest log among those whose
// clocks differ from this one's, which is wrong.
func (k *Keeper) yield(peers []peerClock) {
	var to *peerClock
	for i, p := range peers {
		if p.offset.Abs() > farAt && (to == nil || p.log.Compare(to.log) > 0) {
			to = &peers[i]
		}
	}
	if to == nil {
		return
	}
	ctx, cancel := context.WithTimeout(k.Life.Context(), k.Timeout)
	defer cancel()
	if err := k.HandOver(ctx, to.server); err != nil {
		k.Logger.Warn("leadership not handed over", "error", err)
	}
}
