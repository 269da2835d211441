package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
)

// Whoever has the cluster's key can connect. But every request and every stream
// of raft's is checked for who sent it: a machine that was removed has the key
// still, and its own name, and gets nothing for them.

const (
	// vouchTime is for how long a member's word for another server is taken.
	vouchTime = 30 * time.Second
	// dismissInterval is how often raft's open streams are checked again.
	dismissInterval = time.Second
)

// mayAsk reports whether a server's requests of a kind are answered. Those of
// members are. Anybody may ask whether he is one, which is how a node that was
// away learns that it was removed. A node that has not been added itself knows no
// members, and tells who it is to those who are about to add it.
func (n *Node) mayAsk(from string, kind byte) bool {
	switch {
	case kind == wire.Membership, n.members.Has(from):
		return true
	case kind == wire.Status:
		return len(n.members.All()) == 0 && n.enrolledWith(from)
	}
	return false
}

// enrolledWith reports whether a server was a member when this node enrolled.
func (n *Node) enrolledWith(server string) bool {
	return len(n.config.Members) == 0 || slices.Contains(n.config.Members, server)
}

// admits reports whether raft's requests of a server are taken. A member that
// this node has not heard of, because it was away when that one was added, may
// even lead: then one of those that it knows has to vouch for it.
func (n *Node) admits(ctx context.Context, server string) bool {
	servers := n.members.All()
	switch {
	case len(servers) == 0:
		return n.enrolledWith(server)
	case n.members.Has(server) || n.vouched.holds(server):
		return true
	}
	answers := make(chan bool, len(servers))
	asked := 0
	for _, s := range servers {
		if string(s.ID) == n.self {
			continue
		}
		asked++
		if n.life.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, n.config.scaled(statusTimeout))
			defer cancel()
			_, err := wire.Ask[wire.None](ctx, n.peers, string(s.ID), wire.Vouch, vouchRequest{Server: server})
			answers <- err == nil
		}) != nil {
			return false
		}
	}
	for range asked {
		if <-answers {
			n.vouched.add(server)
			return true
		}
	}
	return false
}

// vouch answers a member that asks for another server.
func (n *Node) vouch(server string) error {
	if !n.members.Has(server) {
		return fmt.Errorf("%w: %s", ErrNotMember, server)
	}
	return nil
}

// dismissStrangers ends raft's streams of those who are members no longer.
func (n *Node) dismissStrangers() {
	for n.life.Context().Err() == nil {
		lifetime.Pause(n.life.Context(), dismissInterval)
		if len(n.members.All()) > 0 {
			n.port.Dismiss(func(server string) bool { return !n.members.Has(server) && !n.vouched.holds(server) })
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

// Servers returns the ids of all servers in raft's configuration, for a node that
// enrols (Config.Members).
func (n *Node) Servers() []string {
	var ids []string
	for _, s := range n.members.All() {
		ids = append(ids, string(s.ID))
	}
	return ids
}

// recovered ends this node's part when a member tells that the cluster was
// recovered without it.
func (n *Node) recovered(server string, err *RecoveredError) {
	if n.isServer(server) {
		n.fail(err)
	}
}

// isServer reports whether this very incarnation of a node is a member.
func (n *Node) isServer(server string) bool {
	return slices.ContainsFunc(n.members.All(), func(s raft.Server) bool { return string(s.ID) == server })
}
