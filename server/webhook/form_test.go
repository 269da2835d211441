package webhook

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// The names are those of the vendor's documentation (rest-api, webhooks).
func TestFactsBecomeWebhookParameters(t *testing.T) {
	service := objects.NewSID(objects.KindService, [16]byte{1})
	doc := objects.NewSID(objects.KindDocument, [16]byte{2})
	list := objects.NewSID(objects.KindList, [16]byte{3})
	aMap := objects.NewSID(objects.KindMap, [16]byte{4})
	for _, c := range []struct {
		name string
		fact fsm.Fact
		want map[string]string
	}{
		{"document", fsm.Fact{Type: objects.ObjectUpdated, Identity: "alice", Object: doc, UniqueName: "d", ObjectRevision: 17, Data: []byte(`{"v":1}`)}, map[string]string{
			"EventType": "document_updated", "DocumentSid": doc.String(), "DocumentUniqueName": "d", "DocumentRevision": "11", "DocumentData": `{"v":1}`, "Identity": "alice",
		}},
		{"removed document", fsm.Fact{Type: objects.ObjectRemoved, Identity: "system", Object: doc, ObjectRevision: 1}, map[string]string{
			"EventType": "document_removed", "DocumentSid": doc.String(), "DocumentRevision": "1", "Identity": "system",
		}},
		{"map item", fsm.Fact{Type: objects.ItemAdded, Identity: "alice", Endpoint: "e1", Object: aMap, UniqueName: "m", EventID: 10, Key: "k", ItemRevision: 10, Data: []byte("{}")}, map[string]string{
			"EventType": "map_item_added", "MapSid": aMap.String(), "MapUniqueName": "m", "EventId": "10", "ItemKey": "k", "ItemRevision": "a", "ItemData": "{}", "Identity": "alice", "EndpointId": "e1",
		}},
		{"removed list item", fsm.Fact{Type: objects.ItemRemoved, Identity: "alice", Object: list, EventID: 3, ItemRevision: 2}, map[string]string{
			"EventType": "list_item_removed", "ListSid": list.String(), "EventId": "3", "ItemIndex": "0", "ItemRevision": "2", "Identity": "alice",
		}},
		{"endpoint", fsm.Fact{Type: objects.EndpointDisconnected, Identity: "alice", Endpoint: "e1"}, map[string]string{
			"EventType": "endpoint_disconnected", "EndpointId": "e1", "Identity": "alice",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want["AccountSid"], c.want["ServiceSid"] = "AC1", service.String()
			got := map[string]string{}
			for _, p := range params("AC1", service, &c.fact) {
				got[p.name] = p.value
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Every event that is told has a name.
func TestEveryWebhookEventHasName(t *testing.T) {
	for e := objects.ObjectCreated; e < objects.EventTypes; e++ {
		switch e {
		case objects.ContextUpdated, objects.MessagePublished, objects.PermissionChanged, objects.ServiceChanged, objects.ServiceRemoved, objects.KeyRevoked, objects.ListClosed:
			continue // not told to webhooks
		}
		require.NotEmpty(t, verbs[e]+endpointEvents[e], "event type %d", e)
	}
}
