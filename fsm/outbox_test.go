package fsm

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func (s *store) deliveries() []*Delivery {
	var out []*Delivery
	s.fsm.View().Deliveries(0, func(d *Delivery) bool {
		out = append(out, d)
		return true
	})
	return out
}

func (s *store) told() []objects.EventType {
	var out []objects.EventType
	for _, d := range s.deliveries() {
		out = append(out, d.Fact.Type)
	}
	return out
}

func TestEveryEventIsToldByWebhooksOrNot(t *testing.T) {
	told := map[objects.EventType]bool{
		objects.ObjectCreated: true, objects.ObjectUpdated: true, objects.ObjectRemoved: true,
		objects.ItemAdded: true, objects.ItemUpdated: true, objects.ItemRemoved: true,
		objects.ContextUpdated: false, objects.MessagePublished: false, objects.PermissionChanged: false,
		objects.ServiceChanged: false, objects.ServiceRemoved: false, objects.KeyRevoked: false,
		objects.ListClosed:        false,
		objects.EndpointConnected: false, objects.EndpointDisconnected: false, // they are no events of an object
	}
	for e := objects.ObjectCreated; e < objects.EventTypes; e++ {
		want, decided := told[e]
		require.True(t, decided, "nobody has decided whether webhooks tell event type %d", e)
		m := &objects.Object{SID: objects.NewSID(objects.KindMap, [16]byte{1})}
		_, is := factOf(objects.Event{Type: e, Object: m, Item: &objects.Item{Key: "k"}})
		require.Equal(t, want, is, "event type %d", e)
	}
}

func TestWebhooksOfTokensAndOfREST(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "")
	require.Empty(t, s.told(), "no URL, no webhook")
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/")})
	m := s.create(objects.KindMap, "m")
	require.Empty(t, s.told(), "REST is silent unless enabled")
	s.must(asAlice, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}, Mode: PutItem, Data: []byte(`{"v":1}`)})
	require.Equal(t, Fact{
		Type: objects.ItemAdded, Identity: "alice", Endpoint: "e1", Object: m.SID, UniqueName: "m",
		EventID: 1, Key: "k", ItemRevision: 1, Data: []byte(`{"v":1}`),
	}, s.deliveries()[0].Fact)
	s.must(asREST, &UpdateService{WebhooksFromREST: ptr(true)})
	s.must(asREST, &RemoveObject{Kind: objects.KindMap, Object: Ref{SID: m.SID}})
	require.Equal(t, []objects.EventType{objects.ItemAdded, objects.ObjectRemoved}, s.told(), "one event for the collection, none an item")
	require.Equal(t, Fact{
		Type: objects.ObjectRemoved, Identity: objects.SystemIdentity, Object: m.SID, UniqueName: "m", ObjectRevision: 1,
	}, s.deliveries()[1].Fact)
}

func TestDeliveriesAreSettled(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), WebhooksFromREST: ptr(true)})
	for range 3 {
		s.create(objects.KindDocument, "")
	}
	all := s.deliveries()
	s.must(asREST, &SettleDeliveries{Done: []uint64{all[0].Seq}, Retry: []Retry{{Seq: all[1].Seq, Attempts: 1, NotBefore: 5}}})
	left := s.deliveries()
	require.Len(t, left, 2)
	require.Equal(t, 1, left[0].Attempts)
	require.EqualValues(t, 5, left[0].NotBefore)
	s.must(asREST, &SettleDeliveries{Retry: []Retry{{Seq: all[1].Seq, Attempts: 1, NotBefore: 9}}})
	require.EqualValues(t, 5, s.deliveries()[0].NotBefore, "told twice, counted once")
}

// addService makes a service that wants to hear everything, and returns what
// does a command in it.
func (s *store) addService(n byte) (sid objects.SID, in func(Op) *Result) {
	sid = objects.NewSID(objects.KindService, [16]byte{n, n})
	settings := DefaultSettings()
	settings.WebhookURL, settings.WebhooksFromREST, settings.ReachabilityWebhooks = "http://127.0.0.1:1/", true, true
	s.must(asREST, &CreateService{SID: sid, Settings: settings})
	return sid, func(op Op) *Result {
		c := s.command(asREST, op)
		c.Service = sid
		r := s.send(c)[0]
		require.Nil(s.t, r.Err)
		s.sent = nil
		return r
	}
}

func (s *store) shareOf(sid objects.SID) share {
	svc, ok := s.fsm.View().Service(Ref{SID: sid})
	require.True(s.t, ok)
	held, _ := s.fsm.View().shares.Get(share{service: svc.Num})
	return held
}

func TestServiceFillingOutboxLosesOnlyItsOwnDeliveries(t *testing.T) {
	s := newStore(t)
	quiet, tell := s.addService(10)
	busy, flood := s.addService(11)
	for range 20 {
		tell(&CreateObject{SID: s.sid(objects.KindMap)})
	}
	data := []byte(`"` + strings.Repeat("x", 250_000) + `"`)
	for range maxOutboxBytes/len(data) + 50 {
		flood(&CreateObject{SID: s.sid(objects.KindDocument), Data: data})
	}
	v := s.fsm.View()
	require.LessOrEqual(t, v.OutboxBytes(), int64(maxOutboxBytes))
	require.Equal(t, 20, s.shareOf(quiet).count, "another's flood costs nothing")
	require.NotZero(t, v.DroppedDeliveries())
	dropped := v.DroppedDeliveries()
	for range 100 {
		tell(&CreateObject{SID: s.sid(objects.KindMap)})
	}
	require.Equal(t, 120, s.shareOf(quiet).count, "and it gets its room from who holds most")
	require.Greater(t, s.fsm.View().DroppedDeliveries(), dropped-1)
	require.Greater(t, s.shareOf(busy).count, 900)
	oldest := s.fsm.View().deliveriesOf(s.shareOf(busy).service, 1)[0]
	require.Greater(t, oldest.Seq, uint64(20+40), "the oldest went first")
	requireIndexed(t, s.fsm.View())

	flood(&RemoveService{})
	require.Len(t, s.deliveries(), 120, "what a removed service waits for is out of reach at once")
	s.expireAll()
	require.Equal(t, 120, s.fsm.View().WaitingDeliveries())
	requireIndexed(t, s.fsm.View())
}

func TestOutboxIsBoundedInNumber(t *testing.T) {
	s := newStore(t)
	tx := &tx{view: s.fsm.work, command: &Command{}}
	one, two := &objects.Service{Num: 1, ServiceSettings: objects.ServiceSettings{WebhookURL: "u"}}, &objects.Service{Num: 2}
	for range 100 {
		tx.deliver(two, Fact{Identity: "i"})
	}
	for range maxDeliveries {
		tx.deliver(one, Fact{Identity: "i"})
	}
	require.Equal(t, maxDeliveries, tx.view.WaitingDeliveries())
	require.EqualValues(t, 100, tx.view.meta.Dropped)
	held, _ := tx.view.shares.Get(share{service: 2})
	require.Equal(t, 100, held.count)
}

func TestLateConnectRevivesNoSession(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true)})
	connect := s.command(asAlice, &ConnectEndpoint{Node: "n1", Session: "s"})
	require.Nil(t, s.send(connect)[0].Err)
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "s"})
	require.True(t, s.send(connect)[0].Repeated)
	require.Zero(t, s.fsm.View().endpoints.Len())
	require.Equal(t, []objects.EventType{objects.EndpointConnected, objects.EndpointDisconnected}, s.told())
}

func TestEndpointsOfLostNodeAreDroppedInSteps(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true), Debouncing: ptr(true), DebounceWindow: ptr(int64(1000))})
	const clients = maxExpired + 10
	var commands []*Command
	for i := range clients {
		actor := Actor{Identity: fmt.Sprint(i), Endpoint: "e", Token: true}
		commands = append(commands, s.command(actor, &ConnectEndpoint{Node: "lost", Session: fmt.Sprint(i)}))
	}
	s.send(commands...)
	s.must(asAlice, &ConnectEndpoint{Node: "here"})
	r := s.must(asREST, &DropEndpoints{Node: "lost"})
	require.True(t, r.More)
	require.False(t, s.must(asREST, &DropEndpoints{Node: "lost"}).More)
	require.Equal(t, 1, s.fsm.View().endpoints.Len())
	require.Equal(t, clients, s.fsm.View().absences.Len())
	s.must(Actor{Identity: "7", Endpoint: "e", Token: true}, &ConnectEndpoint{Node: "here"})
	require.Equal(t, clients-1, s.fsm.View().absences.Len(), "who is back is not reported as gone")
	requireIndexed(t, s.fsm.View())
	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(snapshotBytes(t, s.fsm)))))
	requireIndexed(t, back.View())
	s.time += 1000
	s.expireAll()
	require.Len(t, s.told(), clients+1+clients, "one connect and, but for one, one disconnect each; and one more connect")
}

func TestReachability(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true)})
	second := asAlice
	second.Endpoint = "e2"
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.must(asAlice, &DisconnectEndpoint{Node: "other"})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1"})
	require.Equal(t, []objects.EventType{objects.EndpointConnected, objects.EndpointDisconnected}, s.told())

	// Two connections with one id, as when the end of an old one is noticed late.
	s.must(asAlice, &ConnectEndpoint{Node: "n1", Session: "old"})
	s.must(asAlice, &ConnectEndpoint{Node: "n1", Session: "new"})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "old"})
	require.Len(t, s.told(), 3, "it is still there")
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "new"})
	require.Equal(t, []objects.EventType{objects.EndpointConnected, objects.EndpointDisconnected}, s.told()[2:])

	s.must(asREST, &UpdateService{Debouncing: ptr(true), DebounceWindow: ptr(int64(1000))})
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.must(second, &ConnectEndpoint{Node: "n2"})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1"})
	s.time += 5000
	s.expireAll()
	require.Len(t, s.told(), 6, "the identity is still there")
	s.must(second, &DisconnectEndpoint{Node: "n2"})
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.time += 5000
	s.expireAll()
	require.Len(t, s.told(), 7, "back within the window")
	s.must(asREST, &DropEndpoints{Node: "n1"})
	s.time += 999
	s.expireAll()
	require.Len(t, s.told(), 7)
	s.time++
	s.expireAll()
	require.Equal(t, objects.EndpointDisconnected, s.told()[7])
}
