package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/fsm"
	"lockstep/objects"
)

func servers(spec string) []raft.Server {
	var out []raft.Server
	for _, id := range strings.Fields(spec) {
		name, nonvoter := strings.CutSuffix(id, "?")
		s := raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)}
		if nonvoter {
			s.Suffrage = raft.Nonvoter
		}
		out = append(out, s)
	}
	return out
}

// reports are written as "id:applied" or "id:applied@term".
func reports(spec string) map[string]NodeStatus {
	out := make(map[string]NodeStatus)
	for _, r := range strings.Fields(spec) {
		s := NodeStatus{Term: 7}
		id, rest, _ := strings.Cut(r, ":")
		if _, err := fmt.Sscanf(rest, "%d@%d", &s.AppliedIndex, &s.Term); err != nil {
			fmt.Sscanf(rest, "%d", &s.AppliedIndex)
		}
		s.Server, s.LastIndex = id, s.AppliedIndex
		out[id] = s
	}
	return out
}

func TestNextPromotion(t *testing.T) {
	for _, c := range []struct {
		name, servers, reports string
		seen, next             progress
		want                   string
	}{
		{name: "nobody joins", servers: "a b c", reports: "a:500 b:500 c:500", next: progress{}},
		{name: "first report", servers: "a d?", reports: "d:500", next: progress{"d": 1}},
		{name: "second report", servers: "a d?", reports: "d:450", seen: progress{"d": 1}, next: progress{"d": 2}, want: "d"},
		{name: "just near enough", servers: "a d?", reports: "d:400", seen: progress{"d": 1}, next: progress{"d": 2}, want: "d"},
		{name: "too far behind", servers: "a d?", reports: "d:399", seen: progress{"d": 1}, next: progress{}},
		{name: "silent", servers: "a d?", seen: progress{"d": 1}, next: progress{}},
		{name: "in another term", servers: "a d?", reports: "d:500@6", seen: progress{"d": 1}, next: progress{}},
		{name: "one at a time", servers: "a e? d?", reports: "d:500 e:500", seen: progress{"d": 1, "e": 3}, next: progress{"d": 2, "e": 4}, want: "d"},
		{name: "the other goes on", servers: "a d? e?", reports: "e:500", seen: progress{"d": 5, "e": 1}, next: progress{"e": 2}, want: "e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, next := nextPromotion(servers(c.servers), reports(c.reports), 7, 500, c.seen)
			require.Equal(t, c.want, got)
			require.Equal(t, c.next, next)
		})
	}
}

func TestRemovalKeepsQuorum(t *testing.T) {
	for _, c := range []struct {
		name, servers, alive, remove string
		want                         bool
	}{
		{"one of three", "a b c", "a:1 b:1 c:1", "c", true},
		{"the dead one of three", "a b c", "a:1 b:1", "c", true},
		{"a live one beside a dead one", "a b c", "a:1 b:1", "b", false},
		{"one of two", "a b", "a:1 b:1", "b", true},
		{"the last", "a", "a:1", "a", false},
		{"a nonvoter, whatever else", "a b c d?", "a:1 b:1 d:1", "d", true},
		{"nonvoters do not count", "a b d? e?", "b:1 d:1 e:1", "b", false},
		{"one of five with one dead", "a b c d e", "a:1 b:1 c:1 d:1", "d", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, removalKeepsQuorum(servers(c.servers), c.remove, reports(c.alive)))
		})
	}
}

func TestSuccessorRank(t *testing.T) {
	for _, c := range []struct {
		name, reports, self string
		rank                int
		votes               bool
	}{
		{"equal logs, first id", "a:5 b:5", "a", 0, true},
		{"equal logs, second id", "a:5 b:5", "b", 1, true},
		{"longest log first", "a:5 b:6", "b", 0, true},
		{"shorter log second", "a:5 b:6", "a", 1, true},
		{"alone", "b:5", "b", 0, true},
		{"no voter", "a:5 b:5", "d", 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rank, votes := successorRank(reports(c.reports), c.self)
			require.Equal(t, c.votes, votes)
			if votes {
				require.Equal(t, c.rank, rank)
			}
		})
	}
}

func TestMetadataFits512(t *testing.T) {
	b, err := encodeMeta(gossipMeta{
		InternalAddr: strings.Repeat("a", 120) + ":7000",
		HTTPURL:      "https://" + strings.Repeat("b", 240) + ":8443",
		Version:      "v10.20.30-rc.1+20261231.abcdef0",
	})
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), memberlist.MetaMaxSize)
	got, err := decodeMeta(b)
	require.NoError(t, err)
	require.Contains(t, got.HTTPURL, "bbb")

	_, err = encodeMeta(gossipMeta{HTTPURL: strings.Repeat("b", memberlist.MetaMaxSize)})
	require.ErrorContains(t, err, "at most 512")
}

func TestValidateNamesTheFault(t *testing.T) {
	good := Config{ID: "n", ClusterID: "c", DataDir: "d", Key: [32]byte{1}, InternalAddr: "127.0.0.1:0"}
	require.NoError(t, good.withDefaults().Validate())
	for want, spoil := range map[string]func(*Config){
		"node id":          func(c *Config) { c.ID = "" },
		"cluster id":       func(c *Config) { c.ClusterID = strings.Repeat("c", 65) },
		"data directory":   func(c *Config) { c.DataDir = "" },
		"cluster key":      func(c *Config) { c.Key = [32]byte{} },
		"internal address": func(c *Config) { c.InternalAddr = "nowhere" },
		"gossip address":   func(c *Config) { c.GossipAddr = "nowhere" },
		"time-out scale":   func(c *Config) { c.TimeoutScale = -1 },
	} {
		c := good
		spoil(&c)
		require.ErrorContains(t, c.withDefaults().Validate(), want)
	}
}

func TestFailuresKeepTheirKind(t *testing.T) {
	for _, kind := range failures[1:] {
		got := decodeFailure(encodeFailure(fmt.Errorf("while testing: %w", kind)))
		require.ErrorIs(t, got, kind)
		require.Equal(t, "while testing: "+kind.Error(), got.Error())
	}
	require.ErrorIs(t, decodeFailure(encodeFailure(errors.New("odd"))), errRemote)
	require.ErrorIs(t, decodeFailure([]byte{255, 'x'}), errRemote)
}

func TestProposalsCrossTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var group []*proposal
		for range rapid.IntRange(0, 20).Draw(t, "count") {
			body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
			group = append(group, newProposal(context.Background(), body, rapid.Bool().Draw(t, "again")))
		}
		got, err := decodeProposals(context.Background(), encodeProposals(group))
		require.NoError(t, err)
		require.Len(t, got, len(group))
		for i, p := range group {
			require.True(t, bytes.Equal(p.body, got[i].body))
			require.Equal(t, p.again, got[i].again)
		}
	})
}

func TestOutcomesCrossTheWire(t *testing.T) {
	b := encodeOutcome(nil, outcome{result: &fsm.Result{Index: 9, Err: objects.ErrDocumentGone}})
	b = encodeOutcome(b, outcome{err: ErrOverloaded})
	first, b, err := decodeOutcome(b)
	require.NoError(t, err)
	require.EqualValues(t, 9, first.result.Index)
	require.ErrorIs(t, first.result.Err, objects.ErrDocumentGone)
	second, b, err := decodeOutcome(b)
	require.NoError(t, err)
	require.ErrorIs(t, second.err, ErrOverloaded)
	_, _, err = decodeOutcome(b)
	require.Error(t, err)
}

func FuzzDecodeFromPeer(f *testing.F) {
	f.Add(encodeProposals([]*proposal{newProposal(context.Background(), []byte("x"), true)}))
	f.Add(encodeOutcome(nil, outcome{err: ErrOverloaded}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		decodeProposals(context.Background(), b)
		decodeOutcome(b)
	})
}

func TestFullQueueRefuses(t *testing.T) {
	q := newQueue()
	for range maxQueued {
		require.NoError(t, q.put(newProposal(context.Background(), nil, false)))
	}
	require.ErrorIs(t, q.put(newProposal(context.Background(), nil, false)), ErrOverloaded)

	q = newQueue()
	body := make([]byte, 1<<20)
	for range maxQueuedBytes / len(body) {
		require.NoError(t, q.put(newProposal(context.Background(), body, false)))
	}
	require.ErrorIs(t, q.put(newProposal(context.Background(), body, false)), ErrOverloaded)
	require.Len(t, q.take(context.Background()), 1, "a group of one large proposal")
	require.NoError(t, q.put(newProposal(context.Background(), body, false)), "there is room again")
}

func TestQueueGivesGroupsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := newQueue()
		var want []*proposal
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		for range rapid.IntRange(0, 600).Draw(t, "count") {
			p := newProposal(context.Background(), make([]byte, rapid.IntRange(0, 4000).Draw(t, "size")), false)
			if rapid.IntRange(0, 9).Draw(t, "gone") == 0 {
				p.ctx = gone
			} else {
				want = append(want, p)
			}
			require.NoError(t, q.put(p))
		}
		var got []*proposal
		for len(got) < len(want) {
			group := q.take(context.Background())
			size := 0
			for _, p := range group {
				size += len(p.body)
			}
			require.LessOrEqual(t, len(group), maxGroup)
			require.LessOrEqual(t, size, maxGroupBytes)
			got = append(got, group...)
		}
		require.Equal(t, want, got)
		require.Nil(t, q.take(gone))
	})
}

func TestClosedQueueSettlesWhatWaits(t *testing.T) {
	q := newQueue()
	p := newProposal(context.Background(), nil, false)
	require.NoError(t, q.put(p))
	q.close(errNotLeader)
	require.ErrorIs(t, (<-p.out).err, errNotLeader)
	require.ErrorIs(t, q.put(p), errNotLeader)
}

// heldFuture is an answer of raft that the test gives.
type heldFuture struct {
	raft.ApplyFuture
	release chan error
	results []*fsm.Result
}

func (f *heldFuture) Error() error  { return <-f.release }
func (f *heldFuture) Response() any { return f.results }

func TestBatcherGathersWhileTwoAreUnderWay(t *testing.T) {
	futures := make(chan *heldFuture, 10)
	b := newBatcher(func([]byte) raft.ApplyFuture {
		f := &heldFuture{release: make(chan error, 1)}
		futures <- f
		return f
	}, func() int64 { return 1 })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { b.run(ctx) })

	var all []*proposal
	put := func() {
		p := newProposal(context.Background(), []byte("x"), false)
		all = append(all, p)
		require.NoError(t, b.queue.put(p))
	}
	put()
	first := <-futures
	put()
	second := <-futures
	for range 10 {
		put()
	}
	select {
	case <-futures:
		require.FailNow(t, "a third batch was sent")
	default:
	}
	result := &fsm.Result{Index: 5}
	first.results = []*fsm.Result{result}
	first.release <- nil
	require.Equal(t, outcome{result: result}, <-all[0].out)
	third := <-futures
	second.release <- raft.ErrLeadershipLost
	require.ErrorIs(t, (<-all[1].out).err, ErrUnknownOutcome)
	third.release <- raft.ErrNotLeader
	for _, p := range all[2:] {
		err := (<-p.out).err
		require.ErrorIs(t, err, errNotLeader)
		require.True(t, notWritten(err))
	}
	cancel()
	running.Wait()
	require.ErrorIs(t, b.queue.put(all[0]), errNotLeader)
}

func TestRoundChargesByBucket(t *testing.T) {
	read := func(bucket string) *waitingRead {
		return &waitingRead{ctx: context.Background(), bucket: bucket, out: make(chan readOutcome, 1)}
	}
	round := []*waitingRead{read("a"), read(""), read("b"), read("a")}
	charges := chargesOf(round)
	require.Equal(t, []ReadCharge{{"a", 2}, {"b", 1}}, charges)
	finish(round, charges, readIndexAnswer{Index: 42, Grants: []ReadGrant{{Count: 1, RetryAfter: time.Minute}, {RetryAfter: time.Second}}})
	require.Equal(t, readOutcome{index: 42}, <-round[0].out)
	require.Equal(t, readOutcome{index: 42}, <-round[1].out)
	require.Equal(t, &RateLimited{RetryAfter: time.Second}, (<-round[2].out).err)
	require.Equal(t, &RateLimited{RetryAfter: time.Minute}, (<-round[3].out).err, "the first of its bucket took what was left")
}

func TestTooManyReadsAreRefused(t *testing.T) {
	r := newReader(nil)
	r.waiting = make([]*waitingRead, maxReads)
	require.ErrorIs(t, r.join(&waitingRead{}), ErrOverloaded)
}

func TestCellShowsChanges(t *testing.T) {
	var c cell[int]
	_, changed := c.get()
	c.set(0)
	select {
	case <-changed:
		require.FailNow(t, "nothing changed")
	default:
	}
	c.set(1)
	<-changed
	value, _ := c.get()
	require.Equal(t, 1, value)
}

func TestLogsOfLibrariesReachSlog(t *testing.T) {
	var out bytes.Buffer
	to := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	l := newRaftLogger(to)
	l.Info("quiet")
	l.Warn("failed to get previous log", "error", "x")
	l.Warn("heartbeat timeout reached", "last-leader", "n1")
	g := newGossipLogger(to)
	g.Print("[DEBUG] memberlist: quiet")
	g.Print("[WARN] memberlist: loud")
	require.NotContains(t, out.String(), "quiet")
	require.NotContains(t, out.String(), "previous log")
	require.Contains(t, out.String(), "level=WARN msg=\"raft: heartbeat timeout reached\" last-leader=n1")
	require.Contains(t, out.String(), "level=WARN msg=\"gossip: memberlist: loud\" line=\"memberlist: loud\"")
}
