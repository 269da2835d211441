package fsm

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

const testGrace = 10_000

func session(identity, endpoint string) Actor {
	return Actor{Identity: identity, Endpoint: endpoint, Token: true}
}

func holding(key, data string) *HoldItem {
	return &HoldItem{
		Write: WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}, Mode: PutItem, Data: []byte(data)},
		Node:  "n1", Session: "s1", Grace: testGrace,
	}
}

func leasing(lease, key string) *HoldItem {
	op := holding(key, `1`)
	op.Lease, op.Node, op.Session, op.Grace = lease, "", "", 0
	return op
}

// at returns the operation as it comes by another connection.
func (op *HoldItem) at(node, session string) *HoldItem {
	op.Node, op.Session = node, session
	return op
}

// keys are those of the items of m.
func (s *store) keys() []string {
	o, ok := s.fsm.View().Object(s.service().Num, objects.KindMap, Ref{Name: "m"})
	require.True(s.t, ok)
	keys := []string{}
	s.fsm.View().EachItem(o, func(i *objects.Item) bool {
		keys = append(keys, i.Key)
		return true
	})
	return keys
}

// later lets time go on, and does what a leader does then.
func (s *store) later(millis int64) {
	s.time += millis
	s.expireAll()
}

func (s *store) newTerm() { s.send(TermStarted(newID())) }

// events returns the number of events of m.
func (s *store) events() objects.EventID {
	o, _ := s.fsm.View().Object(s.service().Num, objects.KindMap, Ref{Name: "m"})
	return o.EventID
}

func TestItemGoesSomeTimeAfterItsSession(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	r := s.must(asAlice, holding("alice", `1`))
	require.True(t, r.Created)
	s.put(r.Object, "other", `1`)
	s.later(24 * 3600 * 1000)
	require.Equal(t, []string{"alice", "other"}, s.keys(), "while its session is connected it stays")
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	due, ok := s.fsm.View().NextExpiry()
	require.True(t, ok)
	require.LessOrEqual(t, due, s.time+testGrace)
	s.later(testGrace - 1)
	require.Equal(t, []string{"alice", "other"}, s.keys())
	events := s.events()
	s.later(1)
	require.Equal(t, []string{"other"}, s.keys())
	require.Equal(t, events+1, s.events(), "its removal is told")
	require.Zero(t, s.fsm.View().holders.Len()+s.fsm.View().holds.Len()+s.fsm.View().endpoints.Len())
	requireCounted(t, s.fsm.View())
}

func TestItemStaysIfItsSessionComesBackInTime(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	s.must(asAlice, holding("alice", `1`))
	events := s.events()
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.later(testGrace - 1)
	s.must(asAlice, &ConnectEndpoint{Node: "n2", Session: "s2"})
	s.later(24 * 3600 * 1000)
	require.Equal(t, []string{"alice"}, s.keys())
	require.Equal(t, events, s.events(), "nobody hears anything")

	// Nor does it matter in which order the two are heard of, or whether the old node
	// is found out to be dead only now.
	s.must(asAlice, &ConnectEndpoint{Node: "n3", Session: "s3"})
	require.False(t, s.do(asREST, &DropEndpoints{Node: "n2"}).More)
	s.later(24 * 3600 * 1000)
	require.Equal(t, []string{"alice"}, s.keys())
	s.must(asREST, &DropEndpoints{Node: "n3"})
	s.later(testGrace)
	require.Empty(t, s.keys())
}

func TestItemGoesWithTheLastOfThoseWhoHoldIt(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	first, second := session("alice", "phone"), session("alice", "desk")
	s.must(first, holding("alice", `1`))
	s.must(second, holding("alice", `2`).at("n2", "s2"))
	s.must(second, &DisconnectEndpoint{Node: "n2", Session: "s2"})
	s.later(testGrace)
	require.Equal(t, []string{"alice"}, s.keys())
	s.must(session("bob", "e"), holding("alice", `3`).at("n2", "s3"))
	s.must(first, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.later(testGrace)
	require.Equal(t, []string{"alice"}, s.keys(), "whoever holds it")
	s.must(session("bob", "e"), &DisconnectEndpoint{Node: "n2", Session: "s3"})
	s.later(testGrace)
	require.Empty(t, s.keys())
}

func TestOthersMayChangeAndRemoveWhatIsHeld(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "m")
	s.must(asAlice, holding("k", `1`))
	s.put(m, "k", `2`)
	s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "k"}})
	_, holds := s.fsm.View().Holder(s.service().Num, "alice", "e1")
	require.False(t, holds)
	s.put(m, "k", `3`)
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.later(10 * testGrace)
	require.Equal(t, []string{"k"}, s.keys(), "an item of the same key is another one")

	s.must(asAlice, holding("k", `4`))
	s.put(m, "k", `5`)
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.later(testGrace)
	require.Empty(t, s.keys(), "a plain write does not keep it")

	// A TTL counts, too.
	op := holding("k", `1`)
	op.Write.TTL = ptr(int64(60))
	s.must(asAlice, op)
	s.later(60_000)
	require.Empty(t, s.keys())
	requireCounted(t, s.fsm.View())
}

func TestHoldingHasBounds(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	for i := range objects.MaxHeld {
		s.must(asAlice, holding(fmt.Sprint(i), `1`))
	}
	events := s.events()
	refused(t, objects.ErrHeldItems, s.do(asAlice, holding("more", `1`)))
	require.Equal(t, events, s.events(), "nothing is written then")
	s.must(asAlice, holding("7", `2`))
	s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "7"}})
	s.must(asAlice, holding("more", `1`))

	for i := range objects.MaxHolders {
		s.must(session("bob", fmt.Sprint(i)), holding("shared", `1`).at("n1", fmt.Sprint(i)))
	}
	refused(t, objects.ErrItemHolders, s.do(session("bob", "one more"), holding("shared", `1`)))
	refused(t, objects.ErrParameter, s.do(asREST, holding("k", `1`)))
	list := holding("k", `1`)
	list.Write.Kind = objects.KindList
	refused(t, objects.ErrParameter, s.do(asAlice, list))
	refused(t, objects.ErrMapItemExists, func() *Result {
		op := holding("shared", `1`)
		op.Write.Mode = AddItem
		return s.do(session("carol", "e"), op)
	}())
	_, holds := s.fsm.View().Holder(s.service().Num, "carol", "e")
	require.False(t, holds, "who was refused holds nothing")
}

func TestLeaseIsRenewedOrEnds(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	refused(t, objects.ErrLeaseEnded, s.do(asREST, leasing("L", "k")))
	refused(t, objects.ErrLeaseGone, s.do(asREST, &RenewLease{ID: "L"}))
	s.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
	s.must(asREST, leasing("L", "a"))
	s.must(asREST, leasing("L", "b"))
	events := s.events()
	for range 10 {
		s.later(testGrace - 1)
		s.must(asREST, &RenewLease{ID: "L"})
	}
	require.Equal(t, []string{"a", "b"}, s.keys())
	require.Equal(t, events, s.events(), "a renewal is no event")
	s.must(asREST, &RenewLease{ID: "L", Grace: 2 * testGrace})
	s.later(2*testGrace - 1)
	require.Len(t, s.keys(), 2)
	s.time++
	refused(t, objects.ErrLeaseGone, s.do(asREST, &RenewLease{ID: "L"}))
	refused(t, objects.ErrLeaseEnded, s.do(asREST, leasing("L", "c")))
	s.later(0)
	require.Empty(t, s.keys())

	s.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
	s.must(asREST, leasing("L", "a"))
	s.must(asREST, leasing("L", "b"))
	s.must(asAlice, holding("b", `1`))
	s.must(asREST, &CloseLease{ID: "L"})
	require.Equal(t, []string{"b"}, s.keys(), "at once, but for what somebody else holds")
	refused(t, objects.ErrLeaseGone, s.do(asREST, &CloseLease{ID: "L"}))
	s.must(asREST, &OpenLease{ID: "empty", Grace: testGrace})
	s.later(testGrace)
	require.Equal(t, 1, s.fsm.View().holders.Len(), "a lease that holds nothing ends, too")
}

// While there is no leader nobody can come back, or renew a lease.
func TestNewLeaderGivesTime(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	s.must(asAlice, holding("alice", `1`))
	s.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
	s.must(asREST, leasing("L", "leased"))
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	events := s.events()
	s.time += 3600_000
	s.newTerm()
	s.later(settleMillis - 1)
	s.must(asAlice, &ConnectEndpoint{Node: "n2", Session: "s2"})
	s.must(asREST, &RenewLease{ID: "L"})
	require.Equal(t, []string{"alice", "leased"}, s.keys())
	require.Equal(t, events, s.events())
	s.newTerm()
	s.later(24 * 3600 * 1000)
	require.Equal(t, []string{"alice"}, s.keys())
}

// Nobody is connected to a cluster that begins with the state of another.
func TestRecoveredClusterLetsGoOfWhoDoesNotComeBack(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	bob := session("bob", "e")
	s.must(asAlice, holding("alice", `1`))
	s.must(bob, holding("bob", `1`).at("n1", "s2"))
	s.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
	s.must(asREST, leasing("L", "leased"))
	s.time += 3600_000
	s.must(asREST, &Recover{ClusterID: "other"})
	s.newTerm()
	s.must(asREST, &DropEndpoints{Node: "n1"})
	s.must(asREST, &RenewLease{ID: "L"})
	s.later(testGrace - 1)
	s.must(bob, &ConnectEndpoint{Node: "new", Session: "s3"})
	s.later(1)
	require.Equal(t, []string{"bob"}, s.keys())
	requireCounted(t, s.fsm.View())
}

// What one expire command does is bounded, however much a dead node's clients held.
func TestManyLetGoBitByBit(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	const sessions, each = 30, 50
	for i := range sessions {
		for k := range each {
			s.must(session("u", fmt.Sprint(i)), holding(fmt.Sprint(i, k), `1`).at("n1", fmt.Sprint(i)))
		}
	}
	s.must(asREST, &DropEndpoints{Node: "n1"})
	s.time += testGrace
	rounds := 0
	for more := true; more; rounds++ {
		before := len(s.keys())
		more = s.send(Expire(newID()))[0].More
		require.LessOrEqual(t, before-len(s.keys()), maxExpired)
	}
	require.Greater(t, rounds, 1)
	require.Empty(t, s.keys())
}

func TestHoldersGoWithTheirMapAndService(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	s.must(asAlice, holding("alice", `1`))
	s.must(asREST, &RemoveObject{Kind: objects.KindMap, Object: Ref{Name: "m"}})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.time += testGrace // before what is left of the map is cleared
	s.expireAll()
	require.Zero(t, s.fsm.View().holders.Len()+s.fsm.View().holds.Len())

	other := s.sid(objects.KindService)
	s.must(asREST, &CreateService{SID: other})
	for _, op := range []Op{
		&CreateObject{SID: s.sid(objects.KindMap), UniqueName: "m"}, holding("alice", `1`), &OpenLease{ID: "L", Grace: testGrace}, leasing("L", "k"), &RemoveService{},
	} {
		actor := asREST
		if h, ok := op.(*HoldItem); ok && h.Lease == "" {
			actor = asAlice
		}
		c := s.command(actor, op)
		c.Service = other
		require.Nil(t, s.send(c)[0].Err, "%T", op)
	}
	s.time += testGrace
	s.expireAll()
	v := s.fsm.View()
	require.Zero(t, v.holders.Len()+v.holds.Len()+v.held.Len()+v.lapses.Len()+v.endpoints.Len()+v.items.Len())
	requireCounted(t, v)
}

func TestHoldIsPartOfATransactionOrNothing(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	s.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
	before := sum(t, s.fsm)
	refused(t, objects.ErrLeaseEnded, s.do(asREST, transaction(leasing("L", "a"), leasing("none", "b"))))
	require.Empty(t, s.keys())
	require.NotEqual(t, before, sum(t, s.fsm), "time passed")
	require.Zero(t, s.fsm.View().holds.Len())
	s.must(asREST, transaction(leasing("L", "a"), leasing("L", "b")))
	s.later(testGrace)
	require.Empty(t, s.keys())
}

// Connections of holders are known also where no webhook tells of them, and one that
// is wanted later tells of them all the same.
func TestConnectionsOfHoldersAndWebhooks(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	s.must(asAlice, holding("alice", `1`))
	require.Zero(t, s.fsm.View().outbox.Len())
	s.must(session("bob", "e"), &ConnectEndpoint{Node: "n1", Session: "b"})
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true)})
	require.Equal(t, 2, s.fsm.View().outbox.Len())
	s.must(asAlice, &ConnectEndpoint{Node: "n1", Session: "s1"})
	require.Equal(t, 2, s.fsm.View().outbox.Len(), "it was told")
	s.must(asREST, &UpdateService{ReachabilityWebhooks: ptr(false)})
	require.Equal(t, 1, s.fsm.View().endpoints.Len(), "that of bob, who holds nothing, is forgotten")
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s1"})
	s.later(testGrace)
	require.Empty(t, s.keys())
}

func TestHoldGrowsByWhatIsForeseen(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "m")
	for _, op := range []Op{
		holding("a", `1`), holding("a", `12`), holding("b", `1`),
		&OpenLease{ID: "L", Grace: testGrace}, leasing("L", "a"), leasing("L", "c"),
	} {
		actor := asREST
		if h, ok := op.(*HoldItem); ok && h.Lease == "" {
			actor = asAlice
		}
		before := s.fsm.View()
		_, foreseen := before.Growth(s.command(actor, op))
		s.must(actor, op)
		require.Equal(t, s.fsm.View().Bytes()-before.Bytes(), foreseen, "%+v", op)
	}
}

// holders is the machine with a model of who holds what in one map.
type holders struct {
	*machine
	who   map[string]*modelHolder
	items map[string]map[string]bool // who holds an item, by key; nobody: it stays
}

type modelHolder struct {
	connections map[[2]string]bool
	until       int64 // when it lets go; 0: it is connected
}

var (
	modelKeys   = []string{"a", "b", "c"}
	modelNodes  = []string{"n1", "n2"}
	modelActors = []Actor{session("alice", "e1"), session("alice", "e2"), session("bob", "e1")}
)

func (m *holders) actor(t *rapid.T) (Actor, string, [2]string) {
	a := rapid.SampledFrom(modelActors).Draw(t, "who")
	c := [2]string{rapid.SampledFrom(modelNodes).Draw(t, "node"), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "session")}
	return a, a.Identity + a.Endpoint, c
}

func (m *holders) key(t *rapid.T) string { return rapid.SampledFrom(modelKeys).Draw(t, "key") }

func (m *holders) known(name string) *modelHolder {
	if m.who[name] == nil {
		m.who[name] = &modelHolder{connections: map[[2]string]bool{}}
	}
	return m.who[name]
}

func (m *holders) take(key, name string) {
	if m.items[key] == nil {
		m.items[key] = map[string]bool{}
	}
	m.items[key][name] = true
}

func (m *holders) hold(t *rapid.T) {
	a, name, c := m.actor(t)
	key := m.key(t)
	m.must(a, holding(key, `1`).at(c[0], c[1]))
	m.take(key, name)
	h := m.known(name)
	h.connections[c], h.until = true, 0
}

func (m *holders) connect(t *rapid.T) {
	a, name, c := m.actor(t)
	m.must(a, &ConnectEndpoint{Node: c[0], Session: c[1]})
	h := m.known(name)
	h.connections[c], h.until = true, 0
}

func (m *holders) ended(name string, c [2]string) {
	h := m.known(name)
	if !h.connections[c] {
		return
	}
	if delete(h.connections, c); len(h.connections) == 0 {
		h.until = m.time + testGrace
	}
}

func (m *holders) disconnect(t *rapid.T) {
	a, name, c := m.actor(t)
	m.must(a, &DisconnectEndpoint{Node: c[0], Session: c[1]})
	m.ended(name, c)
}

func (m *holders) lose(t *rapid.T) {
	node := rapid.SampledFrom(modelNodes).Draw(t, "node")
	m.must(asREST, &DropEndpoints{Node: node})
	for name, h := range m.who {
		for c := range maps.Clone(h.connections) {
			if c[0] == node {
				m.ended(name, c)
			}
		}
	}
}

func (m *holders) openLease(*rapid.T) {
	if m.who["lease"] == nil {
		m.must(asREST, &OpenLease{ID: "L", Grace: testGrace})
		m.known("lease").until = m.time + testGrace
	}
}

func (m *holders) lease(t *rapid.T) {
	h := m.who["lease"]
	op := rapid.SampledFrom([]string{"renew", "hold", "close"}).Draw(t, "with the lease")
	key := m.key(t)
	var r *Result
	switch op {
	case "renew":
		r = m.do(asREST, &RenewLease{ID: "L"})
	case "hold":
		r = m.do(asREST, leasing("L", key))
	case "close":
		r = m.do(asREST, &CloseLease{ID: "L"})
	}
	require.Equal(t, h == nil, r.Err != nil)
	switch {
	case h == nil:
	case op == "renew":
		h.until = m.time + testGrace
	case op == "hold":
		m.take(key, "lease")
	default:
		m.letGo("lease")
	}
}

func (m *holders) put(t *rapid.T) {
	key := m.key(t)
	m.must(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}, Mode: PutItem, Data: []byte(`2`)})
	if m.items[key] == nil {
		m.items[key] = map[string]bool{}
	}
}

func (m *holders) removeItem(t *rapid.T) {
	key := m.key(t)
	m.do(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}})
	delete(m.items, key)
}

func (m *holders) letGo(name string) {
	delete(m.who, name)
	for key, by := range m.items {
		if !by[name] {
			continue
		}
		if delete(by, name); len(by) == 0 {
			delete(m.items, key)
		}
	}
}

func (m *holders) passes(t *rapid.T) {
	m.later(rapid.Int64Range(0, testGrace).Draw(t, "milliseconds"))
	for name, h := range maps.Clone(m.who) {
		if h.until != 0 && h.until <= m.time {
			m.letGo(name)
		}
	}
}

func (m *holders) term(*rapid.T) {
	m.newTerm()
	for _, h := range m.who {
		if h.until != 0 {
			h.until = max(h.until, m.time+settleMillis)
		}
	}
}

func (m *holders) check(t *rapid.T) {
	require.Equal(t, slices.Sorted(maps.Keys(m.items)), slices.Sorted(slices.Values(m.keys())))
	o, _ := m.fsm.View().Object(m.service().Num, objects.KindMap, Ref{Name: "m"})
	for key, by := range m.items {
		require.Len(t, m.fsm.View().holdersOf(o.Num, key, math.MaxInt), len(by), "of %s", key)
	}
	m.agree(t)
}

func TestHoldersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &holders{newMachine(t), map[string]*modelHolder{}, map[string]map[string]bool{}}
		m.store.create(objects.KindMap, "m")
		t.Repeat(map[string]func(*rapid.T){
			"hold":        m.hold,
			"connect":     m.connect,
			"disconnect":  m.disconnect,
			"lose a node": m.lose,
			"open lease":  m.openLease,
			"use lease":   m.lease,
			"put":         m.put,
			"remove":      m.removeItem,
			"pass":        m.passes,
			"new term":    m.term,
			"restore":     m.snapshotAndRestore,
			"":            m.check,
		})
	})
}
