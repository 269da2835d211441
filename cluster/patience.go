package cluster

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
)

const (
	probeInterval = 100 * time.Millisecond // between attempts to reach a follower
	probeTimeout  = 2 * time.Second        // of one of them
)

// patientTransport is raft's transport, but waits for a follower that cannot be
// reached instead of failing at once.
//
// To each failure raft answers with a pause that doubles up to ten seconds and
// is not cut short when the follower is back. One that was down for a while
// would not count for a majority for as long, and if another one failed then,
// nothing could be written, although a majority is up.
//
// Heartbeats and votes are not patient: what they find out is whether a node
// is there.
type patientTransport struct {
	*raft.NetworkTransport
	node    *Node
	streams raft.StreamLayer
}

// AppendEntries implements raft.Transport.
func (t *patientTransport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, addr, args, resp)
	if err == nil || isHeartbeat(args) || !t.await(id, addr, args.Term) {
		return err
	}
	return t.NetworkTransport.AppendEntries(id, addr, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *patientTransport) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if !t.await(id, addr, args.Term) {
		return fmt.Errorf("%s at %s cannot be reached", id, addr)
	}
	return t.NetworkTransport.InstallSnapshot(id, addr, args, resp, data)
}

// isHeartbeat tells by what heartbeats leave out: a place in the log.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return args.PrevLogEntry == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// await waits until a follower can be reached. It gives false when that is no
// longer wanted: the term or the node's time is over, or the follower is no
// member at this address any more.
func (t *patientTransport) await(id raft.ServerID, addr raft.ServerAddress, term uint64) bool {
	if t.probe(addr) == nil {
		return t.wants(id, addr, term) // only a connection had gone stale
	}
	log := t.node.config.Logger.With("member", id, "address", addr)
	log.Info("member cannot be reached")
	since := time.Now()
	for t.wants(id, addr, term) {
		lifetime.Pause(t.node.life.Context(), probeInterval)
		if t.probe(addr) == nil {
			log.Info("member can be reached again", "after", time.Since(since).Round(time.Millisecond))
			return true
		}
	}
	return false
}

func (t *patientTransport) wants(id raft.ServerID, addr raft.ServerAddress, term uint64) bool {
	return t.node.life.Context().Err() == nil && t.node.leadership.Leads(term) &&
		slices.ContainsFunc(t.node.members.All(), func(s raft.Server) bool { return s.ID == id && s.Address == addr })
}

// probe opens a connection to a follower, with the handshake: a process that
// hangs does not answer that.
func (t *patientTransport) probe(addr raft.ServerAddress) error {
	conn, err := t.streams.Dial(addr, probeTimeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

var _ Transport = (*patientTransport)(nil)
