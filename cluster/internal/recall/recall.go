// Package recall finds a server that has lost some of its memory: an older copy of
// its log, term and vote was put in their place. Nothing in such a copy is wrong,
// and only the others can tell.
//
// Each server remembers of every other one how far it said that it was, term
// and applied index, by process. What a process has told, its disk had: a later
// process that begins with less is a copy of before. It finds out by asking the
// others, and until enough have answered it takes no part in elections. What
// none of the others that are left has been told cannot be found out: that is
// the last second or so before the rest were lost, too.
//
// Run and Ask are each one goroutine of the server's; all other methods may be
// called from anywhere.
package recall

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
)

// Extent is how far a server's memory reaches.
type Extent struct {
	Term  uint64 `cbor:"1,keyasint"` // that it has taken part in
	Index uint64 `cbor:"2,keyasint"` // of its log, at least
}

// covers reports whether a server that remembers e has forgotten nothing of
// other.
func (e Extent) covers(other Extent) bool { return e.Term >= other.Term && e.Index >= other.Index }

func (e Extent) max(other Extent) Extent {
	return Extent{max(e.Term, other.Term), max(e.Index, other.Index)}
}

// Told is what a server has said of itself.
type Told struct {
	Process uint64 `cbor:"1,keyasint"` // its newest process
	Extent  Extent `cbor:"2,keyasint"` // as that one told
	Before  Extent `cbor:"3,keyasint"` // as those before it told
}

// Request asks how far the processes before the one that asks have told that the
// server was.
type Request struct {
	Process uint64 `cbor:"1,keyasint"`
}

// Config sets up a Recall. Every field is required.
type Config struct {
	Self    string
	Process uint64
	Start   Extent // what the disk had when this process started
	Servers *member.Configuration
	Peers   func() wire.Caller // the way to the other members
	Life    *lifetime.Lifetime
	Scale   func(time.Duration) time.Duration
	Logger  *slog.Logger

	// Save keeps what the others have told on this server's disk, and Lost is told
	// that this one's is a copy of before.
	Save func(map[string]Told) error
	Lost func(told, has Extent)
}

// Recall is one server's part.
type Recall struct {
	Config
	passed atomic.Bool

	mu      sync.Mutex
	told    map[string]Told
	changed bool // since it was kept
}

// New returns the part of a server that was told, before its start, what told has.
func New(c Config, told map[string]Told) *Recall {
	r := &Recall{Config: c, told: told}
	if r.told == nil {
		r.told = make(map[string]Told)
	}
	return r
}

// Passed reports whether this server may take part in elections.
func (r *Recall) Passed() bool { return r.passed.Load() }

// Heard notes what another server says of itself.
func (r *Recall) Heard(n status.Node) {
	if n.Server == "" || n.Server == r.Self {
		return
	}
	now := Extent{n.Term, n.AppliedIndex}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.told[n.Server]
	if t.Process != n.Process {
		t = Told{Process: n.Process, Before: t.Before.max(t.Extent)}
	}
	if t.Extent.covers(now) && t.Process == r.told[n.Server].Process {
		return
	}
	t.Extent = t.Extent.max(now)
	r.told[n.Server], r.changed = t, true
}

// Answer answers a server that asks what it was.
func (r *Recall) Answer(_ context.Context, from string, q Request) (Extent, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.told[from]
	if t.Process == q.Process {
		return t.Before, nil
	}
	return t.Before.max(t.Extent), nil
}

const (
	// saveInterval is how often what was told is kept on the disk.
	saveInterval = 5 * time.Second
	// askPause is the pause before servers that did not answer are asked again;
	// scaled.
	askPause = 200 * time.Millisecond
)

// Run keeps what the others tell for as long as the server runs.
func (r *Recall) Run() {
	for {
		lifetime.Pause(r.Life.Context(), saveInterval)
		if r.Life.Context().Err() != nil {
			return
		}
		if told := r.unsaved(); told != nil {
			if err := r.Save(told); err != nil {
				r.Logger.Warn("what other members told of themselves was not kept", "error", err)
				return // the disk's failure is somebody else's to tell
			}
		}
	}
}

// unsaved returns what members have told if some of it is not kept. It forgets
// servers that are no longer members.
func (r *Recall) unsaved() map[string]Told {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.changed {
		return nil
	}
	r.changed = false
	kept := make(map[string]Told, len(r.told))
	for server, t := range r.told {
		if r.Servers.Has(server) {
			kept[server] = t
		} else {
			delete(r.told, server)
		}
	}
	return kept
}

// Ask asks the other members, until so many voters have answered that one of any
// majority that this server can be part of has, or one has been told of more than
// there is.
func (r *Recall) Ask() {
	for {
		servers := r.Servers.All()
		if len(servers) == 0 {
			r.passed.Store(true) // it was never added, and has promised nothing
			return
		}
		needed := neededOf(servers, r.Self)
		answered, lost := r.askAll(servers)
		switch {
		case lost:
			return
		case answered >= needed:
			r.passed.Store(true)
			return
		}
		lifetime.Pause(r.Life.Context(), r.Scale(askPause))
		if r.Life.Context().Err() != nil {
			return
		}
	}
}

// neededOf returns how many other voters have to answer: all but one of the
// smallest majority, and one if this server does not vote, by what it knows.
func neededOf(servers []raft.Server, self string) int {
	voters, votes := 0, false
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			voters++
			votes = votes || string(s.ID) == self
		}
	}
	if !votes {
		return max(1, voters/2)
	}
	return voters / 2
}

// askAll asks all others once, and returns how many voters answered and whether
// this server is a copy of before.
func (r *Recall) askAll(servers []raft.Server) (answered int, lost bool) {
	type reply struct {
		votes bool
		told  Extent
		err   error
	}
	replies := make([]reply, len(servers))
	var asking sync.WaitGroup
	for i, s := range servers {
		replies[i].err = wire.ErrNotSent
		if string(s.ID) == r.Self {
			continue
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(r.Life.Context(), r.Scale(status.Timeout))
			defer cancel()
			told, err := wire.Ask[Extent](ctx, r.Peers(), string(s.ID), wire.Recall, Request{Process: r.Process})
			replies[i] = reply{s.Suffrage == raft.Voter, told, err}
		})
	}
	asking.Wait()
	for _, a := range replies {
		if a.err != nil {
			continue
		}
		if !r.Start.covers(a.told) {
			r.Lost(a.told, r.Start)
			return answered, true
		}
		if a.votes {
			answered++
		}
	}
	return answered, false
}

// String says how far a memory reaches.
func (e Extent) String() string { return fmt.Sprintf("term %d and log entry %d", e.Term, e.Index) }
