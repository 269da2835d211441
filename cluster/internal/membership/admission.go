package membership

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
)

// Any holder of the cluster's key can connect. But the sender of every request
// and of every raft stream is checked: a machine that was removed still has the
// key, and its own name, and gets nothing for them.

const (
	// vouchTime is how long a member's word for another server counts.
	vouchTime = 30 * time.Second
	// dismissInterval is how often raft's open streams are checked again.
	dismissInterval = time.Second
)

// VouchRequest asks a member whether another server is one.
type VouchRequest struct {
	Server string `cbor:"1,keyasint"`
}

// Admission decides whose requests are answered. Every field but Enrolled is
// required.
type Admission struct {
	Self     string // this server
	Servers  *member.Configuration
	Peers    func() wire.Caller // the way to the other members
	Life     *lifetime.Lifetime
	Scale    func(time.Duration) time.Duration // multiplies time-outs
	Enrolled []string                          // the members when this node enrolled; none: any holder of the key

	vouched vouched
}

// MayAsk reports whether a server's requests of a kind are answered. Those of
// members are. Any server may ask whether it is a member, which is how a node
// that was away learns that it was removed. A node that has not been added yet
// knows no members, and answers those that are about to add it.
func (a *Admission) MayAsk(from string, kind byte) bool {
	switch {
	case kind == wire.Membership, a.Servers.Has(from):
		return true
	case kind == wire.Status:
		return len(a.Servers.All()) == 0 && a.EnrolledWith(from)
	}
	return false
}

// EnrolledWith reports whether a server was a member when this node enrolled.
func (a *Admission) EnrolledWith(server string) bool {
	return len(a.Enrolled) == 0 || slices.Contains(a.Enrolled, server)
}

// Admits reports whether a server's raft requests are accepted. A member that
// was added while this node was away, and that it has not heard of, may even
// lead: then a member that it knows has to vouch for it.
func (a *Admission) Admits(ctx context.Context, server string) bool {
	servers := a.Servers.All()
	switch {
	case len(servers) == 0:
		return a.EnrolledWith(server)
	case a.Servers.Has(server) || a.vouched.holds(server):
		return true
	}
	answers := make(chan bool, len(servers))
	asked := 0
	for _, s := range servers {
		if string(s.ID) == a.Self {
			continue
		}
		asked++
		if a.Life.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, a.Scale(status.Timeout))
			defer cancel()
			_, err := wire.Ask[wire.None](ctx, a.Peers(), string(s.ID), wire.Vouch, VouchRequest{Server: server})
			answers <- err == nil
		}) != nil {
			return false
		}
	}
	for range asked {
		if <-answers {
			a.vouched.add(server)
			return true
		}
	}
	return false
}

// AnswerVouch answers a member that asks whether another server is a member.
func (a *Admission) AnswerVouch(_ context.Context, _ string, r VouchRequest) (wire.None, error) {
	if !a.Servers.Has(r.Server) {
		return wire.None{}, fmt.Errorf("%w: %s", wire.ErrNotMember, r.Server)
	}
	return wire.None{}, nil
}

// DismissStrangers ends the raft streams of servers that are no longer members.
func (a *Admission) DismissStrangers(port interface {
	Dismiss(func(server string) bool)
}) {
	for a.Life.Context().Err() == nil {
		lifetime.Pause(a.Life.Context(), dismissInterval)
		if len(a.Servers.All()) > 0 {
			port.Dismiss(func(server string) bool { return !a.Servers.Has(server) && !a.vouched.holds(server) })
		}
	}
}

// vouched are servers that a member has vouched for.
type vouched struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// add remembers a server. There are never more than those that became members
// while this node was away.
func (v *vouched) add(server string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.until == nil {
		v.until = make(map[string]time.Time)
	}
	for s, until := range v.until {
		if time.Now().After(until) {
			delete(v.until, s)
		}
	}
	v.until[server] = time.Now().Add(vouchTime)
}

func (v *vouched) holds(server string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return time.Now().Before(v.until[server])
}

// Vouched reports whether a member has vouched for a server just now.
func (a *Admission) Vouched(server string) bool { return a.vouched.holds(server) }
