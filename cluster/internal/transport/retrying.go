// Package transport is raft's transport with three additions: it waits for
// followers that cannot be reached, ends pipelines at the first refusal, and keeps
// servers without a vote from voting. All of them depend on how hashicorp/raft uses
// a transport; contract_test.go fails if another version of it does so differently.
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

// Transport is raft's transport, with the optional interfaces that a node needs.
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

// Retrying is raft's transport, but waits for a follower that cannot be reached
// instead of failing at once.
//
// After each failure raft pauses, twice as long each time up to ten seconds, even
// if the follower is back sooner. A follower that was down for a while would not
// count for a majority during the pause. If another follower failed then, nothing
// could be written, although a majority is up.
//
// Heartbeats and votes are not retried, because they have to find out whether a
// node is there.
type Retrying struct {
	*raft.NetworkTransport
	Streams raft.StreamLayer // the network transport's

	// Context ends with the node.
	Context context.Context

	// Wanted reports whether to go on waiting for a follower: this node leads the
	// term, and the follower is a member.
	Wanted func(id raft.ServerID, term uint64) bool

	Logger *slog.Logger
}

// AppendEntries implements raft.Transport.
func (t *Retrying) AppendEntries(id raft.ServerID, addr raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := t.NetworkTransport.AppendEntries(id, addr, args, resp)
	if err == nil || isHeartbeat(args) || !t.awaitReachable(id, args.Term) {
		return err
	}
	return t.NetworkTransport.AppendEntries(id, addr, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *Retrying) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if !t.awaitReachable(id, args.Term) {
		return fmt.Errorf("%s cannot be reached", id)
	}
	return t.NetworkTransport.InstallSnapshot(id, addr, args, resp, data)
}

// isHeartbeat reports whether a request is a heartbeat. Only heartbeats leave out
// the place in the log.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return args.PrevLogEntry == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// awaitReachable waits until a follower can be reached. It returns false if the
// term ends, the node ends, or the follower is no longer a member.
func (t *Retrying) awaitReachable(id raft.ServerID, term uint64) bool {
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

func (t *Retrying) wants(id raft.ServerID, term uint64) bool {
	return t.Context.Err() == nil && t.Wanted(id, term)
}

// probe opens a connection to a follower and does the handshake, which a process
// that hangs does not answer.
func (t *Retrying) probe(id raft.ServerID) error {
	conn, err := t.Streams.Dial(raft.ServerAddress(id), probeTimeout)
	if err != nil {
		return err
	}
	return conn.Close()
}

var _ Transport = (*Retrying)(nil)
