package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/cluster/internal/member"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

func TestMain(m *testing.M) {
	// memberlist's Shutdown does not wait for a probe under way.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probe"))
}

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

var (
	testKey     = [32]byte{1, 2, 3}
	testService = objects.NewSID(objects.KindService, [16]byte{1})
	testList    = objects.NewSID(objects.KindList, [16]byte{2})
)

// members are the nodes of a test's cluster over loopback.
type members struct {
	t     testing.TB
	dir   string
	edit  func(*Config)
	logs  *logs
	nodes map[string]*Node
}

// newMembers starts a cluster of nodes n1 to nN, all voters, with a service and
// a list in it. edit changes the configuration of each node; it may be nil.
func newMembers(t testing.TB, count int, edit func(*Config)) *members {
	m := &members{t: t, dir: t.TempDir(), edit: edit, logs: newLogs(t), nodes: make(map[string]*Node)}
	t.Cleanup(func() {
		for _, n := range m.nodes {
			n.stop()
		}
	})
	first := m.open("n1", func(c *Config) { c.Bootstrap = true })
	m.must(first, &fsm.Initialise{ClusterID: "test", AccountSID: "AC", AuthToken: "token", Service: testService})
	m.must(first, &fsm.CreateObject{SID: testList})
	for i := 2; i <= count; i++ {
		m.join(fmt.Sprintf("n%d", i))
	}
	for _, n := range m.nodes {
		m.ready(n)
	}
	return m
}

// config is that of a node, at its earlier addresses if it ran before.
func (m *members) config(id string) Config {
	c := Config{
		ID: id, DataDir: filepath.Join(m.dir, id), ClusterID: "test", Key: testKey,
		InternalAddr: "127.0.0.1:0", HTTPURL: "http://" + id, AdminURL: "http://admin." + id, Version: "1.0",
		Logger: slog.New(slog.NewTextHandler(m.logs, nil)),
	}
	if old := m.nodes[id]; old != nil {
		c.InternalAddr = old.InternalAddr()
	}
	if m.edit != nil {
		m.edit(&c)
	}
	return c
}

// open starts a node (again).
func (m *members) open(id string, edits ...func(*Config)) *Node {
	c := m.config(id)
	for _, edit := range edits {
		edit(&c)
	}
	n, err := Open(context.Background(), c)
	require.NoError(m.t, err)
	m.nodes[id] = n
	return n
}

// join starts a node and waits until it votes, and all that run know.
func (m *members) join(id string, edits ...func(*Config)) *Node {
	n := m.open(id, edits...)
	m.eventually(func() bool { // on a busy machine the node may not answer in time
		err := m.leader().AddMember(m.context(), MemberSpec{ID: id, InternalAddr: n.InternalAddr()})
		if !errors.Is(err, ErrUnreachable) {
			require.NoError(m.t, err)
		}
		return err == nil
	})
	m.eventually(func() bool {
		for _, x := range m.nodes {
			if x.life.Context().Err() == nil && (suffrage(x, id) != raft.Voter || !x.changes.Committed()) {
				return false
			}
		}
		return true
	})
	return n
}

// crash ends a node as if its process had been killed.
func (m *members) crash(n *Node) { require.NoError(m.t, n.stop()) }

func (m *members) ready(n *Node) {
	select {
	case <-n.Ready():
	case <-time.After(patience):
		require.FailNow(m.t, "node is not ready", n.ID())
	}
}

// leader waits for the node that leads.
func (m *members) leader() *Node {
	var leader *Node
	m.eventually(func() bool {
		for _, n := range m.nodes {
			if n.life.Context().Err() == nil && n.IsLeader() {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

func (m *members) followers() []*Node {
	leader := m.leader()
	var out []*Node
	for _, n := range m.nodes {
		if n != leader && n.life.Context().Err() == nil {
			out = append(out, n)
		}
	}
	return out
}

// suffrage is a member's by the leader's configuration, or -1.
func (m *members) suffrage(id string) raft.ServerSuffrage { return suffrage(m.leader(), id) }

// suffrage is a member's by the configuration of this node, or -1.
func suffrage(n *Node, id string) raft.ServerSuffrage {
	for _, s := range n.members.All() {
		if member.NodeOf(s.ID) == id {
			return s.Suffrage
		}
	}
	return -1
}

func (m *members) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	m.t.Cleanup(cancel)
	return ctx
}

func (m *members) eventually(condition func() bool) {
	m.t.Helper()
	require.Eventually(m.t, condition, patience, 5*time.Millisecond)
}

func (m *members) must(n *Node, op fsm.Op) *fsm.Result {
	m.t.Helper()
	r, err := n.Propose(m.context(), command(op))
	require.NoError(m.t, err)
	if r.Err != nil {
		require.NoError(m.t, r.Err)
	}
	return r
}

// items counts what a linearizable read on a node finds in the list.
func (m *members) items(n *Node) int {
	view, err := n.Read(m.context(), objects.Bucket{})
	require.NoError(m.t, err)
	return itemsIn(view)
}

func itemsIn(view *fsm.View) int {
	list, ok := view.ObjectBySID(testList)
	if !ok {
		return 0
	}
	return len(view.Items(list, fsm.Range{Limit: 1 << 20}))
}

func command(op fsm.Op) *fsm.Command {
	return &fsm.Command{ID: commandid.New(), Service: testService, Op: op}
}

func appendItem() *fsm.WriteItem {
	return &fsm.WriteItem{Kind: objects.KindList, Object: fsm.Ref{SID: testList}, Mode: fsm.AppendItem, Data: []byte(`{}`)}
}

func newSID(kind objects.Kind) objects.SID {
	var b [16]byte
	rand.Read(b[:])
	return objects.NewSID(kind, b)
}

// logs are what the nodes of a test have logged, shown if it fails.
type logs struct {
	mu    sync.Mutex
	lines bytes.Buffer
}

func newLogs(t testing.TB) *logs {
	l := new(logs)
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if t.Failed() {
			t.Log("logs of the nodes:\n" + l.lines.String())
		}
	})
	return l
}

// Write implements io.Writer.
func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(line)
}
