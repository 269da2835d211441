// Package transport is raft's transport, with what raft's own lacks: it waits for
// followers that cannot be reached, ends pipelines at the first refusal, and keeps
// servers without a vote from voting. All of it leans on how hashicorp/raft uses a
// transport; contract_test.go fails when a version of it does so differently.
package transport

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
)

// Transport is raft's transport, with what a node needs besides.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// RequestTimeout bounds one raft request; for a snapshot raft scales it.
const RequestTimeout = 10 * time.Second

const (
	probeInterval = 100 * time.Millisecond // between attempts to reach a follower
	probeTimeout  = 2 * time.Second        // of one of them
)

// Patient is raft's transport, but waits for a follower that cannot be reached
// instead of failing at once.
//
// To each failure raft answers with a pause that doubles up to ten seconds and
// is not cut short when the follower is back. One that was down for a while
// would not count for a majority for as long, and if another one failed then,
// nothing could be written, although a majority is up.
//
// Heartbeats and votes are not patient: what they find out is whether a node
// is there.
type Patient struct {
	*raft.NetworkTransport
	Streams raft.StreamLayer // the network transport's

	// Context ends with the node.
	Context context.Context

	// Wants reports whether a follower is still to be waited for: this node leads
	// the term, and the follower is a member.
	Wants func(id raft.ServerID, term uint64) bool

	Logger *slog.Logger
}

// AppendEntries implements raft.Transport.
func (t *Patient) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, addr, args, resp)
	if err == nil || isHeartbeat(args) || !t.await(id, args.Term) {
		return err
	}
	return t.NetworkTransport.AppendEntries(id, addr, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *Patient) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if !t.await(id, args.Term) {
		return fmt.Errorf("%s cannot be reached", id)
	}
	return t.NetworkTransport.InstallSnapshot(id, addr, args, resp, data)
}

// isHeartbeat tells by what heartbeats leave out: a place in the log.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return args.PrevLogEntry == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// await waits until a follower can be reached. It returns false when that is no
// longer wanted: the term or the node's time is over, or the follower is no
// member any more.
func (t *Patient) await(id raft.ServerID, term uint64) bool {
	if t.probe(id) == nil {
		return t.wants(id, term) // only a connection had gone stale
	}
	log := t.Logger.With("member", id)
	log.Info("member cannot be reached")
	since := time.Now()
	for t.wants(id, term) {
		lifetime.Pause(t.Context, probeInterval)
		if t.probe(id) == nil {
			log.Info("member can be reached again", "after", time.Since(since).Round(time.Millisecond))
			return true
		}
	}
	return false
}

func (t *Patient) wants(id raft.ServerID, term uint64) bool {
	return t.Context.Err() == nil && t.Wants(id, term)
}

// probe opens a connection to a follower, with the handshake: a process that
// hangs does not answer that.
func (t *Patient) probe(id raft.ServerID) error {
	conn, err := t.Streams.Dial(raft.ServerAddress(id), probeTimeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

var _ Transport = (*Patient)(nil)
