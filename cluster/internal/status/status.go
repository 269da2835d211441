// Package status is what members say of themselves when they are asked.
package status

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// Timeout bounds asking a member for its status; scaled.
const Timeout = 500 * time.Millisecond

// Role is a member's part in the cluster.
type Role string

// The roles. An unreachable member may be a voter or not.
const (
	Leader      Role = "leader"
	Follower    Role = "follower"
	Nonvoter    Role = "nonvoter"
	Unreachable Role = "unreachable"
)

// Node is a member's own account of itself.
type Node struct {
	ID           string `cbor:"1,keyasint"`
	HTTP         string `cbor:"2,keyasint,omitempty"`
	Raft         string `cbor:"3,keyasint"` // address of the internal port
	Role         Role   `cbor:"4,keyasint"`
	AppliedIndex uint64 `cbor:"5,keyasint"`
	CommitIndex  uint64 `cbor:"6,keyasint"`
	Term         uint64 `cbor:"7,keyasint"`
	Version      string `cbor:"8,keyasint,omitempty"`
	LastIndex    uint64 `cbor:"9,keyasint"`            // of its log
	LastTerm     uint64 `cbor:"14,keyasint,omitempty"` // of that entry
	Candidate    bool   `cbor:"10,keyasint,omitempty"`
	Server       string `cbor:"11,keyasint"` // the id in raft's configuration
	Process      uint64 `cbor:"12,keyasint"` // different in each process

	// Clock is the machine's, and ClusterClock the cluster's time as the node
	// carries it on, if it does; since 1970.
	Clock        time.Duration `cbor:"30,keyasint"`
	ClusterClock time.Duration `cbor:"31,keyasint,omitempty"`

	Digest fsm.Digest `cbor:"40,keyasint"` // of what it has applied

	Keys []fsm.KeyID `cbor:"13,keyasint,omitempty"` // the cluster's keys that it accepts

	Gossip string `cbor:"45,keyasint,omitempty"` // where it gossips

	// Level is the cluster's format level as the node's state has it, and Newest the
	// highest that its release knows.
	Level  fsm.Level `cbor:"50,keyasint,omitempty"`
	Newest fsm.Level `cbor:"51,keyasint,omitempty"`

	DiskShort bool `cbor:"60,keyasint,omitempty"` // its disk has too little room

	// Nonvoter says that the node wants no vote, and Reserve for how long a voter is
	// silent before the node takes its place all the same; zero: for ever.
	Nonvoter bool          `cbor:"70,keyasint,omitempty"`
	Reserve  time.Duration `cbor:"71,keyasint,omitempty"`

	// Voter is whether it has a vote, by raft's configuration as the one has it who
	// tells the status.
	Voter bool `cbor:"72,keyasint,omitempty"`

	// Problem says why the node does not serve, if it does not (see Node.Health).
	Problem string `cbor:"20,keyasint,omitempty"`
}

// Survey asks members. Every field is required.
type Survey struct {
	Self  string // this server
	Own   func() Node
	Peers wire.Peers
	Scale func(time.Duration) time.Duration // multiplies Timeout
	Heard func(Node)                        // is told of each answer
}

// Of asks a server, or the process at an address.
func (s *Survey) Of(ctx context.Context, to string) (Node, error) {
	if to == s.Self || to == s.Peers.Addr() {
		return s.Own(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.Scale(Timeout))
	defer cancel()
	answer, err := wire.Ask[Node](ctx, s.Peers, to, wire.Status, wire.None{})
	if err == nil {
		s.Heard(answer)
	}
	return answer, err
}

// Reports asks members for their status, and returns it by server; those that do
// not answer are left out.
func (s *Survey) Reports(ctx context.Context, servers []raft.Server) map[string]Node {
	answers := make([]Node, len(servers))
	var asking sync.WaitGroup
	for i, server := range servers {
		asking.Go(func() {
			if r, err := s.Of(ctx, string(server.ID)); err == nil {
				answers[i] = r
			}
		})
	}
	asking.Wait()
	reports := make(map[string]Node, len(servers))
	for _, r := range answers {
		if r.Server != "" {
			reports[r.Server] = r
		}
	}
	return reports
}
