package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/batch"
	"lockstep/cluster/internal/proposer"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

func TestEveryNodeWritesAndReads(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	written := 0
	for _, writer := range m.nodes {
		m.must(writer, appendItem())
		written++
		for _, reader := range m.nodes {
			require.Equal(t, written, m.items(reader), "written on %s, read on %s", writer.ID(), reader.ID())
		}
	}
	status := m.leader().Status(m.context())
	require.Equal(t, "test", status.ClusterID)
	require.Equal(t, m.leader().ID(), status.Leader)
	roles := make(map[Role]int)
	for _, s := range status.Nodes {
		roles[s.Role]++
		require.Equal(t, "http://"+s.ID, s.HTTP)
		require.Equal(t, "1.0", s.Version)
		require.NotZero(t, s.AppliedIndex)
	}
	require.Equal(t, map[Role]int{RoleLeader: 1, RoleFollower: 2}, roles)
}

func TestStatusShowsUnreachableNode(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	gone := m.followers()[0]
	m.crash(gone)
	for _, s := range m.leader().Status(m.context()).Nodes {
		require.Equal(t, s.ID == gone.ID(), s.Role == RoleUnreachable, s.ID)
		require.Equal(t, m.nodes[s.ID].InternalAddr(), s.Raft)
	}
}

func TestRestartKeepsAcknowledgedWrites(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	for range 20 {
		m.must(m.followers()[0], appendItem())
	}
	for _, n := range m.nodes {
		m.crash(n)
	}
	for id := range m.nodes {
		m.open(id)
	}
	for _, n := range m.nodes {
		m.ready(n)
		require.Equal(t, 20, m.items(n))
	}
}

func TestRetryAfterLeadershipLostAppliesOnce(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	var acknowledged atomic.Int64
	var writers sync.WaitGroup
	ctx := m.context()
	stop := make(chan struct{})
	for _, n := range m.nodes {
		for range 4 {
			writers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					r, err := n.Propose(ctx, command(appendItem()))
					if err != nil || r.Err != nil {
						t.Errorf("propose on %s: %v, %v", n.ID(), r, err)
						return
					}
					acknowledged.Add(1)
				}
			})
		}
	}
	for range 5 {
		before := acknowledged.Load()
		m.eventually(func() bool { return acknowledged.Load() > before+50 })
		old := m.leader()
		if err := old.TransferLeadership(ctx); err != nil {
			continue // too busy to hand over in time: as good a disturbance
		}
		m.eventually(func() bool { return m.leader() != old })
	}
	close(stop)
	writers.Wait()
	for _, n := range m.nodes {
		require.EqualValues(t, acknowledged.Load(), m.items(n))
	}
}

// Commands that are proposed together take effect in their order, once, on whichever
// node and however often the leader changes.
func TestCommandsTogetherKeepTheirOrderOverLeaderChanges(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	ctx := m.context()
	var groups atomic.Int64
	var writers sync.WaitGroup
	stop := make(chan struct{})
	certain := make(map[objects.SID]map[int]bool) // what was written, by list: whether the outcome was told
	for _, n := range m.nodes {
		list, written := newSID(objects.KindList), make(map[int]bool)
		m.must(n, &fsm.CreateObject{SID: list})
		certain[list] = written
		writers.Go(func() {
			for !t.Failed() {
				var pause <-chan time.Time
				var together []*fsm.Command
				first, told := len(written), 0
				for range 1 + groups.Load()%9 {
					data := []byte(strconv.Itoa(len(written)))
					written[len(written)] = true
					together = append(together, command(&fsm.WriteItem{Kind: objects.KindList, Object: fsm.Ref{SID: list}, Mode: fsm.AppendItem, Data: data}))
				}
				n.ProposeAll(ctx, together, func(i int, r *fsm.Result, err error) {
					told++
					switch {
					case err != nil: // its disk hangs for a moment, say
						written[first+i] = false
						pause = time.After(10 * time.Millisecond)
					case r.Err != nil:
						t.Errorf("propose on %s: %v", n.ID(), r.Err)
					}
				})
				if told != len(together) {
					t.Errorf("told of %d of %d", told, len(together))
				}
				if groups.Add(1); pause != nil {
					<-pause
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 8 {
		before := groups.Load()
		m.eventually(func() bool { return groups.Load() > before+20 })
		old := m.leader()
		if err := old.TransferLeadership(ctx); err != nil {
			continue // too busy to hand over in time: as good a disturbance
		}
		m.eventually(func() bool { return m.leader() != old })
	}
	close(stop)
	writers.Wait()
	view, err := m.leader().Read(m.context(), objects.Bucket{})
	require.NoError(t, err)
	for sid, written := range certain {
		list, _ := view.ObjectBySID(sid)
		last := -1
		for _, item := range view.Items(list, fsm.Range{Limit: 1 << 20}) {
			value, err := strconv.Atoi(string(item.Data))
			require.NoError(t, err)
			require.Contains(t, written, value, "once")
			if written[value] {
				require.Greater(t, value, last)
				last = value
			}
			delete(written, value)
		}
		for value, known := range written {
			require.False(t, known, "%d is lost", value)
		}
	}
}

func TestSameCommandTwiceIsAppliedOnce(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	c := command(appendItem())
	for _, n := range m.nodes {
		r, err := n.Propose(m.context(), c)
		require.NoError(t, err)
		require.Nil(t, r.Err)
		require.EqualValues(t, 0, r.Item.Index)
	}
	require.Equal(t, 1, m.items(m.leader()))
}

func TestKeyedCommandsAreToldApart(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	id := commandid.New()
	for _, n := range m.nodes {
		var proposals sync.WaitGroup
		results := make([]*fsm.Result, 2)
		for i := range results {
			proposals.Go(func() {
				c := command(appendItem())
				c.ID, c.ClientChosen, c.Fingerprint = id, true, [16]byte{byte(i)}
				results[i], _ = n.Propose(m.context(), c)
			})
		}
		proposals.Wait()
		refused := 0
		for _, r := range results {
			require.NotNil(t, r)
			if r.Err != nil {
				require.ErrorIs(t, r.Err, objects.ErrMoreThanOnce)
				refused++
			}
		}
		require.Equal(t, 1, refused, "one of two requests under one key has to be refused")
	}
	require.Equal(t, 1, m.items(m.leader()))
}

func TestReadIndexIgnoresNonvoters(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, func(c *Config) { c.TimeoutScale = 30 }) // so that the leader goes on leading
	leader, followers := m.leader(), m.followers()
	joining := m.open("n4")
	require.NoError(t, leader.AddMember(m.context(), MemberSpec{ID: "n4", InternalAddr: joining.InternalAddr()}))
	held, release := make(chan struct{}), make(chan struct{})
	var holding sync.WaitGroup
	holding.Go(func() {
		leader.changes.Exclusively(m.context(), func() error { // no promotion from here on
			close(held)
			<-release
			return nil
		})
	})
	defer holding.Wait()
	defer close(release)
	<-held
	require.Equal(t, raft.Nonvoter, m.suffrage("n4"))
	m.ready(joining) // a nonvoter may ask, as long as voters confirm the term

	for _, n := range followers {
		m.crash(n)
	}
	for _, n := range []*Node{leader, joining} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := n.Read(ctx, objects.Bucket{})
		cancel()
		require.ErrorIs(t, err, ErrNoLeader, n.ID())
		require.True(t, leader.IsLeader())
	}
}

func TestJoinNeverRaisesQuorumEarly(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	alone := m.leader()
	err := alone.AddMember(m.context(), MemberSpec{ID: "n2", InternalAddr: "127.0.0.1:1"})
	require.ErrorIs(t, err, ErrUnreachable)
	require.Len(t, alone.Members(), 1)

	joining := m.open("n2")
	require.NoError(t, alone.AddMember(m.context(), MemberSpec{ID: "n2", InternalAddr: joining.InternalAddr()}))
	m.crash(joining)
	m.must(alone, appendItem()) // two voters, one of them dead, could not
	require.Equal(t, raft.Nonvoter, m.suffrage("n2"))

	m.open("n2")
	m.eventually(func() bool { return m.suffrage("n2") == raft.Voter })
	m.ready(m.nodes["n2"])
	require.Equal(t, 1, m.items(m.nodes["n2"]))
}

func TestAddMemberRefusesConflicts(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 2, nil)
	addr := m.nodes["n2"].InternalAddr()
	for _, n := range m.nodes { // on the leader, and passed on to it
		require.ErrorIs(t, n.AddMember(m.context(), MemberSpec{ID: "n9", InternalAddr: addr}), ErrAddressTaken)
		require.NoError(t, n.AddMember(m.context(), MemberSpec{ID: "n2", InternalAddr: addr}), "a member as it is")
		require.ErrorIs(t, n.RemoveMember(m.context(), "n9"), ErrUnknownMember)
	}
	other := m.open("n3")
	err := m.leader().AddMember(m.context(), MemberSpec{ID: "n4", InternalAddr: other.InternalAddr()})
	require.ErrorIs(t, err, ErrUnreachable, "another node answers there")
}

func TestLeaveThenRestartRefuses(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			m := newMembers(t, 3, nil)
			leaving := m.leader()
			if who == "follower" {
				leaving = m.followers()[0]
			}
			require.NoError(t, leaving.Leave(m.context()))
			<-leaving.Removed()
			require.NoError(t, leaving.Close())
			_, err := Open(context.Background(), m.config(leaving.ID()))
			require.ErrorIs(t, err, ErrLeft)
			m.must(m.leader(), appendItem())
			require.Len(t, m.leader().Members(), 2)
		})
	}
}

func TestLastNodesCannotLeave(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	gone := m.followers()
	m.crash(gone[0])
	require.ErrorIs(t, gone[1].Leave(m.context()), ErrQuorum, "one dead, one alive would remain")
	require.NoError(t, m.leader().RemoveMember(m.context(), gone[0].ID()), "the dead one may go")
	require.NoError(t, gone[1].Leave(m.context()))
	require.ErrorIs(t, m.leader().Leave(m.context()), ErrQuorum, "nobody would remain")
}

func TestRemovedWhileAwayLearnsOfIt(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	away := m.followers()[0]
	m.crash(away)
	require.NoError(t, m.leader().RemoveMember(m.context(), away.ID()))
	back := m.open(away.ID())
	select {
	case <-back.Removed():
	case <-time.After(patience):
		require.FailNow(t, "removal not noticed")
	}
	ctx := m.context()
	_, err := back.Propose(ctx, command(appendItem()))
	require.ErrorIs(t, err, ErrNoLeader)
	require.NoError(t, ctx.Err(), "the removed node waited for a leader")
	m.crash(back)
	_, err = Open(context.Background(), m.config(away.ID()))
	require.ErrorIs(t, err, ErrLeft)
}

// A node was told that it is a member by a leader that died before anybody else
// was. The next leader does not know of it. A node that joins does not give up then,
// as one does that has been a member.
func TestAdditionThatIsTakenBackIsNoRemoval(t *testing.T) {
	for _, joining := range []bool{true, false} {
		t.Run(fmt.Sprint("joining ", joining), func(t *testing.T) {
			t.Parallel()
			m, disks := withDisks(t)
			leader, followers := m.leader(), m.followers()
			away, sick := followers[0], followers[1]
			disks["n4"] = new(sickDisk)
			added := m.open("n4", func(c *Config) { c.Joining = joining })
			m.crash(away)
			disks[sick.ID()].fails.Store(true)
			ctx, cancel := context.WithCancel(m.context())
			defer cancel()
			go leader.AddMember(ctx, MemberSpec{ID: "n4", InternalAddr: added.InternalAddr()})
			m.eventually(func() bool { return added.members.Has(added.self) })
			m.failed(sick)
			require.NoError(t, sick.Close())
			cancel()
			m.crash(leader)
			disks[sick.ID()].fails.Store(false)
			m.open(away.ID())
			again := m.open(sick.ID())
			m.eventually(func() bool { return again.Health() == nil })
			require.False(t, again.members.Has(added.self), "the addition was not taken back")

			removed := func() bool {
				select {
				case <-added.Removed():
					return true
				default:
					return false
				}
			}
			if !joining {
				m.eventually(removed)
				return
			}
			require.Never(t, removed, 5*added.config.scaled(time.Second), 10*time.Millisecond) // it asks once a second
			m.open(leader.ID())
			require.NoError(t, m.leader().AddMember(m.context(), MemberSpec{ID: "n4", InternalAddr: added.InternalAddr()}))
			m.eventually(added.Votes)
			require.False(t, removed())
		})
	}
}

// A node that was added and did not come to note it comes back elsewhere, and leads:
// nobody else can tell it that it is a member, and nobody else announces its address.
func TestNodeThatJoinedMovesAndLeads(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	joined := m.leader()
	m.crash(joined)
	moved := m.open(joined.ID(), func(c *Config) { c.InternalAddr, c.Joining = "127.0.0.1:0", true })
	m.eventually(func() bool {
		servers := moved.members.All()
		return len(servers) == 1 && string(servers[0].Address) == moved.InternalAddr()
	})
}

func TestNodeComesBackUnderAnotherAddress(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	moving := m.followers()[0]
	m.crash(moving)
	moved := m.open(moving.ID(), func(c *Config) { c.InternalAddr = "127.0.0.1:0" })
	require.NotEqual(t, moving.InternalAddr(), moved.InternalAddr())
	m.ready(moved)
	m.must(moved, appendItem())
	require.Equal(t, 1, m.items(moved))
	require.Equal(t, raft.Voter, m.suffrage(moved.ID()))
}

// Without takeover, the time-outs of this cluster would keep it waiting longer
// than the test does.
func TestTakeoverAfterCrash(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, func(c *Config) { c.TimeoutScale = 60 })
	for range 2 {
		dead := m.leader()
		survivor := m.followers()[0]
		m.must(survivor, appendItem())
		m.crash(dead)
		m.must(survivor, appendItem())
		m.open(dead.ID())
		m.ready(m.nodes[dead.ID()])
	}
	require.Equal(t, 4, m.items(m.leader()))
}

func TestFollowerCatchesUpBySnapshot(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, func(c *Config) { c.TrailingLogs = 1 })
	away := m.followers()[0]
	m.crash(away)
	for range 20 {
		m.must(m.leader(), appendItem())
	}
	for _, n := range m.nodes {
		if n != away {
			require.NoError(t, n.Snapshot(m.context()))
			require.NoError(t, n.Snapshot(m.context()), "nothing new is no failure")
		}
	}
	back := m.open(away.ID())
	m.ready(back)
	require.Equal(t, 20, m.items(back))
	m.must(back, appendItem())
}

func TestBootstrapRefusesState(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	m.crash(m.nodes["n1"])
	c := m.config("n1")
	c.Bootstrap = true
	_, err := Open(context.Background(), c)
	require.ErrorIs(t, err, ErrHasState)
}

func TestSecondProcessOnOneDirectoryFails(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	c := m.config("n1")
	c.InternalAddr = "127.0.0.1:0"
	_, err := Open(context.Background(), c)
	require.ErrorContains(t, err, "another process")
	info, err := os.Stat(c.DataDir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

func TestUnfinishedSnapshotsAreSwept(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	m.crash(m.nodes["n1"])
	unfinished := filepath.Join(m.dir, "n1", "raft", "snapshots", "1-2-3.tmp")
	require.NoError(t, os.MkdirAll(unfinished, 0o700))
	m.open("n1")
	require.NoDirExists(t, unfinished)
}

func TestOnLeadFollowsLeadership(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	var running atomic.Int64
	started := make(chan string, 16)
	for _, n := range m.nodes {
		n.OnLead("test", func(ctx context.Context) {
			running.Add(1)
			defer running.Add(-1)
			started <- n.ID()
			<-ctx.Done()
		})
	}
	first := m.leader()
	require.Equal(t, first.ID(), <-started)
	require.NoError(t, first.TransferLeadership(m.context()))
	second := <-started
	require.NotEqual(t, first.ID(), second)
	m.eventually(func() bool { return running.Load() == 1 })
	for _, n := range m.nodes {
		require.NoError(t, n.Close())
	}
	require.Zero(t, running.Load(), "Close waits for the leader's jobs")
}

func TestDueObjectsExpire(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	document := newSID(objects.KindDocument)
	m.must(m.leader(), &fsm.CreateObject{SID: document, Data: []byte(`{}`), TTL: 1})
	m.eventually(func() bool {
		for _, n := range m.nodes {
			if _, ok := n.FSM().View().ObjectBySID(document); ok {
				return false
			}
		}
		return true
	})
}

func TestLeaderAdmits(t *testing.T) {
	t.Parallel()
	refusal := &fsm.Result{Err: objects.ErrRate.After(7)}
	spent := objects.Bucket{Class: objects.BucketReads, SID: testList, Identity: "alice"}
	fresh := objects.Bucket{Class: objects.BucketReads, SID: testList, Identity: "bob"}
	var closed atomic.Bool
	m := newMembers(t, 3, func(c *Config) {
		c.Admit = func(*fsm.View, *fsm.Command, bool) *fsm.Result {
			if closed.Load() {
				return refusal
			}
			return nil
		}
		c.AdmitReads = func(charges []ReadCharge) []ReadGrant {
			out := make([]ReadGrant, len(charges))
			for i, charge := range charges {
				out[i].Count = charge.Count
				if charge.Bucket == spent {
					out[i] = ReadGrant{RetryAfter: time.Minute}
				}
			}
			return out
		}
	})
	closed.Store(true)
	for _, n := range m.nodes {
		r, err := n.Propose(m.context(), command(appendItem()))
		require.NoError(t, err)
		require.ErrorIs(t, r.Err, objects.ErrRate)
		require.Equal(t, 7, r.Err.RetryAfter)

		var limited *RateLimited
		_, err = n.Read(m.context(), spent)
		require.ErrorAs(t, err, &limited)
		require.Equal(t, time.Minute, limited.RetryAfter())
		_, err = n.Read(m.context(), fresh)
		require.NoError(t, err)
	}
	require.Zero(t, m.items(m.leader()))
}

func TestWithoutQuorumRequestsGiveUp(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	left := m.followers()[0]
	for _, n := range m.nodes {
		if n != left {
			m.crash(n)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := left.Read(ctx, objects.Bucket{})
	require.ErrorIs(t, err, ErrNoLeader)
	_, err = left.Propose(ctx, command(appendItem()))
	require.True(t, wire.NotWritten(err) || isUnknown(err), "%v", err)
}

func TestClosedNodeRefuses(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	n := m.leader()
	require.NoError(t, n.Close())
	require.NoError(t, n.Close())
	_, err := n.Propose(m.context(), command(appendItem()))
	require.Error(t, err)
	_, err = n.Read(m.context(), objects.Bucket{})
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, n.Snapshot(m.context()), ErrClosed)
}

func TestCommandTooLarge(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 1, nil)
	op := appendItem()
	op.Data = make([]byte, 1<<20)
	_, err := m.leader().Propose(m.context(), command(op))
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestGossipCarriesAddresses(t *testing.T) {
	t.Parallel()
	var m *members
	m = newMembers(t, 1, func(c *Config) {
		c.GossipAddr = "127.0.0.1:0"
		if m != nil {
			c.Seeds = []string{m.nodes["n1"].GossipAddr()}
		}
	})
	m.join("n2")
	for _, n := range m.nodes {
		m.eventually(func() bool {
			members := n.Members()
			return len(members) == 2 && members[0].HTTPURL == "http://n1" && members[1].HTTPURL == "http://n2" &&
				members[0].AdminURL == "http://admin.n1" && members[1].AdminURL == "http://admin.n2" &&
				members[0].Role == RoleLeader && members[1].Role == RoleFollower
		})
	}
	require.NoError(t, m.nodes["n2"].Leave(m.context()))
	require.NoError(t, m.nodes["n2"].Close())
	m.eventually(func() bool { _, alive := m.nodes["n1"].gossip.lookup(m.nodes["n2"].self); return !alive })
}

func isUnknown(err error) bool { return err != nil && !wire.NotWritten(err) }

func TestReadIndexRefusesOtherTerm(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	leader := m.leader()
	term := leader.raft.CurrentTerm()
	for _, asked := range []uint64{term - 1, term + 1} {
		_, err := leader.reads.Answer(m.context(), m.followers()[0].self, readindex.Request{Term: asked})
		require.ErrorIs(t, err, wire.ErrOtherTerm)
	}
	_, err := leader.reads.Answer(m.context(), "stranger.1", readindex.Request{Term: term})
	require.ErrorIs(t, err, ErrNotMember)
	_, err = m.followers()[0].reads.Answer(m.context(), leader.self, readindex.Request{Term: term})
	require.ErrorIs(t, err, wire.ErrNotLeader)
}

// What may have been written must not be refused by the rate limit.
func TestRetryIsNotChargedAgain(t *testing.T) {
	t.Parallel()
	var charged atomic.Int64
	m := newMembers(t, 3, func(c *Config) {
		c.Admit = func(*fsm.View, *fsm.Command, bool) *fsm.Result { charged.Add(1); return nil }
	})
	before := charged.Load()
	c := command(appendItem())
	c.Issued = 1
	body, err := c.Encode()
	require.NoError(t, err)
	leader := m.leader().InternalAddr()
	for _, again := range []bool{false, true} {
		for _, n := range m.nodes {
			group := []*batch.Proposal{batch.NewProposal(m.context(), body, again)}
			answer, err := wire.Call(m.context(), n.peers, leader, wire.Propose, proposer.EncodeProposals(group))
			require.NoError(t, err)
			outcomes, err := proposer.DecodeOutcomes(answer)
			require.NoError(t, err)
			require.Len(t, outcomes, 1)
			require.NoError(t, outcomes[0].Err)
			require.Nil(t, outcomes[0].Result.Err)
		}
		require.EqualValues(t, 3, charged.Load()-before)
	}
	require.Equal(t, 1, m.items(m.leader()))
}
