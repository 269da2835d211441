package fsm

import (
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

func (s *store) told() []string {
	var out []string
	for _, d := range s.deliveries() {
		out = append(out, param(d, "EventType"))
	}
	return out
}

func param(d *Delivery, name string) string {
	for _, p := range d.Params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

func TestWebhooksOfTokensAndOfREST(t *testing.T) {
	s := newStore(t)
	s.create(objects.KindMap, "")
	require.Empty(t, s.told(), "no URL, no webhook")
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/")})
	m := s.create(objects.KindMap, "m")
	require.Empty(t, s.told(), "REST is silent unless enabled")
	s.must(asAlice, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "k"}, Mode: PutItem, Data: []byte(`{"v":1}`)})
	d := s.deliveries()[0]
	for name, want := range map[string]string{
		"EventType": "map_item_added", "AccountSid": "AC", "ServiceSid": testService.String(), "Identity": "alice", "EndpointId": "e1",
		"MapSid": m.SID.String(), "MapUniqueName": "m", "EventId": "1", "ItemKey": "k", "ItemRevision": "1", "ItemData": `{"v":1}`,
	} {
		require.Equal(t, want, param(d, name), name)
	}
	s.must(asREST, &UpdateService{WebhooksFromREST: ptr(true)})
	s.must(asREST, &RemoveObject{Kind: objects.KindMap, Object: Ref{SID: m.SID}})
	require.Equal(t, []string{"map_item_added", "map_removed"}, s.told(), "one event for the collection, none an item")
	require.Equal(t, objects.SystemIdentity, param(s.deliveries()[1], "Identity"))
	require.Empty(t, param(s.deliveries()[1], "EndpointId"))
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

func TestReachability(t *testing.T) {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true)})
	second := asAlice
	second.Endpoint = "e2"
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.must(asAlice, &ConnectEndpoint{Node: "n1"})
	s.must(asAlice, &DisconnectEndpoint{Node: "other"})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1"})
	require.Equal(t, []string{"endpoint_connected", "endpoint_disconnected"}, s.told())

	// Two connections with one id, as when the end of an old one is noticed late.
	s.must(asAlice, &ConnectEndpoint{Node: "n1", Session: "old"})
	s.must(asAlice, &ConnectEndpoint{Node: "n1", Session: "new"})
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "old"})
	require.Len(t, s.told(), 3, "it is still there")
	s.must(asAlice, &DisconnectEndpoint{Node: "n1", Session: "new"})
	require.Equal(t, []string{"endpoint_connected", "endpoint_disconnected"}, s.told()[2:])

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
	require.Equal(t, "endpoint_disconnected", s.told()[7])
}
