package realtime_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

// The client checks the form of every notification that it reads.

func TestEventsComeInRequestedProtocolVersion(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		writer := w.connect("writer")
		m := named(writer, "people")
		for _, k := range []string{"a", "b", "c"} {
			writer.put(m, k, `{"team":"red"}`)
		}
		old, young := w.connect("old"), w.connect("young")
		old.form = 3
		id, at, _ := writer.query("people", reds)
		for _, c := range []*client{old, young} {
			c.subscribe(1, wish(m, "map", 0), queryWish(id, at, "people", reds), wish("MP00000000000000000000000000000000", "map", 0))
			require.ElementsMatch(w, []string{
				`map_item_added 1 a {"team":"red"} (1)`, `map_item_added 2 b {"team":"red"} (1)`, `map_item_added 3 c {"team":"red"} (1)`,
				"subscription_established 3 (1)", "subscription_established 3 (1)", "subscription_failed 404 54200 (1)",
			}, c.heard(6))
		}
		writer.put(m, "a", `{"team":"red","n":2}`)
		for _, c := range []*client{old, young} {
			require.ElementsMatch(w, []string{`map_item_updated 4 a {"team":"red","n":2}`, `live_query_item_updated a {"team":"red","n":2}`}, c.heard(2))
			c.subscribe(2, queryWish(id, 0, "people", reds))
			require.Equal(w, []string{"live_query_updated 4 a b c", "subscription_established 4 (2)"}, c.heard(2))
		}
		writer.http(204, "DELETE", "/v3/Maps/"+m, "data_sync")
		for _, c := range []*client{old, young} {
			require.ElementsMatch(w, []string{"map_removed 5", "subscription_failed 404 54200 (null)"}, c.heard(2))
			c.subscription("cancel", 3, wish(m, "map", nil))
			require.Equal(w, []string{"subscription_canceled (3)"}, c.heard(1))
			c.silent()
		}
	})
}

// One client may ask for both, as the form belongs to the subscription.
func TestFormBelongsToTheSubscription(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d, e := c.create("Documents"), c.create("Documents")
		c.form = 3
		c.subscribe(1, wish(d, "document", 0))
		c.heard(1)
		c.form = 4
		c.subscribe(2, wish(e, "document", 0))
		c.heard(1)
		for form, sid := range map[int]string{3: d, 4: e} {
			c.form = form
			object, _ := objects.ParseSID(sid)
			w.node.Must(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: object}, Data: []byte(`{}`)})
			require.Equal(w, []string{"document_updated 1 {}"}, c.heard(1))
		}
		c.subscribe(3, wish(d, "document", 1))
		require.Equal(w, []string{"subscription_established 1 (3)"}, c.heard(1), "asked for anew, it has the form of the later request")
	})
}

func TestFormThatIsNotServedIsRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		ask := func(version, action string) string {
			return `{` + version + `"action":"` + action + `","correlation_id":1,"requests":[{"object_sid":"` + d + `","object_type":"document","last_event_id":0}]}`
		}
		for _, version := range []string{"1", "2", "5", "0", "-3", "3.5", `"3"`, `"x"`, "true", "[]", "{}"} {
			for _, action := range []string{"establish", "cancel"} {
				refused := c.http(400, "POST", "/v4/Subscriptions", ask(`"event_protocol_version":`+version+`,`, action))
				require.EqualValues(w, 20001, refused["code"])
				require.Contains(w, refused["message"], "event_protocol_version must be 3 or 4")
			}
		}
		c.silent()
		for _, absent := range []string{"", `"event_protocol_version":null,`} {
			c.http(200, "POST", "/v4/Subscriptions", ask(absent, "establish"))
			require.Equal(w, []string{"subscription_established 0 (1)"}, c.heard(1), "the present form")
		}
	})
}
