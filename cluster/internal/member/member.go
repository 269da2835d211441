// Package member knows raft's configuration: which servers there are, which of
// them vote, and which node each one is a life of.
//
// A server, in raft's sense, is one life of a node: its id and the incarnation
// that was made up together with its log. A node that has lost its log has lost
// its promises, too: what it acknowledged, and whom it voted for. It comes back
// under the same node id, but as another server, which has no vote until it has
// caught up. Everything about votes and quorums goes by servers; people, client
// traffic and certificates see nodes.
package member

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// ServerOf names an incarnation of a node in raft's configuration.
func ServerOf(node, incarnation string) raft.ServerID {
	return raft.ServerID(node + "." + incarnation)
}

// NodeOf returns the id of the node that a server is an incarnation of.
func NodeOf(server raft.ServerID) string {
	if end := strings.LastIndexByte(string(server), '.'); end > 0 {
		return string(server[:end])
	}
	return string(server)
}

// Superseded reports whether a server is followed, in the order in which they
// were added, by a later incarnation of its node that the filter accepts.
func Superseded(servers []raft.Server, id raft.ServerID, by func(raft.Server) bool) bool {
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
	return at >= 0 && slices.ContainsFunc(servers[at+1:], func(s raft.Server) bool {
		return NodeOf(s.ID) == NodeOf(id) && by(s)
	})
}

// Configuration is the latest that raft has in its log; empty before Use.
type Configuration struct{ raft atomic.Pointer[raft.Raft] }

// Use has the configuration come from raft from now on.
func (c *Configuration) Use(r *raft.Raft) { c.raft.Store(r) }

// All returns all servers.
func (c *Configuration) All() []raft.Server {
	r := c.raft.Load()
	if r == nil {
		return nil
	}
	return r.GetConfiguration().Configuration().Servers
}

// Voters returns the voting servers, in the order of ids.
func (c *Configuration) Voters() []raft.Server {
	voters := slices.DeleteFunc(slices.Clone(c.All()), func(s raft.Server) bool { return s.Suffrage != raft.Voter })
	slices.SortFunc(voters, func(a, b raft.Server) int { return cmp.Compare(a.ID, b.ID) })
	return voters
}

// Has reports whether this very incarnation of a node is a member.
func (c *Configuration) Has(server string) bool {
	return slices.ContainsFunc(c.All(), func(s raft.Server) bool { return string(s.ID) == server })
}
