package realtime

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

const red = `{"team":"red"}`

// ask runs a query and gives its id and event.
func (c *client) ask(index, text string) (id string, last objects.EventID, keys []string) {
	c.t.Helper()
	answer := c.do("POST", "/v3/Insights/"+index+"/Items", fmt.Sprintf(`{"query_string":%q,"type":"live_query"}`, text))
	require.Equal(c.t, 200, answer.HTTP.Code, "%s", answer.Payload)
	var body struct {
		Query string          `json:"query_id"`
		Last  objects.EventID `json:"last_event_id"`
		Items []struct {
			Key      string
			Revision objects.EventID
		}
	}
	require.NoError(c.t, json.Unmarshal(answer.Payload, &body))
	for _, i := range body.Items {
		keys = append(keys, i.Key)
	}
	return body.Query, body.Last, keys
}

func toQuery(id, index, text string, last objects.EventID) string {
	return fmt.Sprintf(`{"object_sid":%q,"object_type":"live_query","index_name":%q,"query_string":%q,"last_event_id":%d}`, id, index, text, last)
}

// watch asks a query and follows it.
func (c *client) watch(index, text string) (id string) {
	c.t.Helper()
	id, last, _ := c.ask(index, text)
	c.subscribe(1, toQuery(id, index, text, last))
	require.Equal(c.t, id, c.event("subscription_established").Event.Object)
	return id
}

func TestLiveQuery(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "players")
	r.put(m, "b", red)
	r.put(m, "a", red)
	r.put(m, "c", `{"team":"blue"}`)
	c := r.connect("alice")
	id, last, keys := c.ask("players", `team == "red"`)
	require.Equal(t, []string{"a", "b"}, keys)
	require.Equal(t, objects.EventID(3), last)

	// What came between question and subscription: the whole result.
	r.put(m, "d", red)
	c.subscribe(8, toQuery(id, "players", `team == "red"`, last))
	whole := c.event("live_query_updated")
	require.Equal(t, "8", string(whole.Correlation))
	require.Len(t, whole.Events[0].Items, 3)
	require.Equal(t, "a", whole.Events[0].Items[0].Key)
	require.Equal(t, objects.EventID(4), *c.event("subscription_established").Event.Last)

	r.put(m, "c", `{"team":"green"}`) // concerns nobody
	r.put(m, "c", red)
	require.Equal(t, "6", string(c.event("live_query_item_updated").Events[0].Revision))
	r.put(m, "c", `{"team":"blue"}`)
	left := c.event("live_query_item_removed").Events[0]
	require.Equal(t, "c", left.Key)
	require.Equal(t, "7", string(left.Revision))
	r.removeItem(m, "a")
	require.Equal(t, "8", string(c.event("live_query_item_removed").Events[0].Revision))
	c.batch("cancel", 9, toQuery(id, "players", "", 0))
	require.Equal(t, id, c.event("subscription_canceled").Event.Object)
	r.put(m, "a", red)
	c.quiet()
	eventually(t, func() bool { return r.server.hub.Topics() == 0 })
}

func TestEqualQueriesShareTheirWork(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "players")
	first, second := r.connect("alice"), r.connect("bob")
	id := first.watch("players", `team == "red" or team == "blue"`)
	require.Equal(t, id, second.watch("players", `(data.team EQ "red") || data.team eq "blue"`))
	second.watch("players", `team == "red" or team == "blue"`) // again
	r.server.queries.mu.Lock()
	require.Len(t, r.server.queries.byID, 1)
	require.Equal(t, 2, r.server.queries.byID[id].users)
	r.server.queries.mu.Unlock()
	require.Equal(t, 2.0, count(r.server.metrics.subscriptions))
	r.put(m, "a", red)
	first.event("live_query_item_updated")
	second.event("live_query_item_updated")
	first.conn.Close()
	second.conn.Close()
	eventually(t, func() bool { return len(r.sessions()) == 0 })
	require.Zero(t, r.queries())
	require.Zero(t, r.server.hub.Topics())
	require.Zero(t, count(r.server.metrics.subscriptions))
}

func TestQueryRefusals(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "many")
	r.create(objects.KindMap, "secret")
	r.create(objects.KindMap, "other")
	for i := range objects.MaxQueryResult + 1 {
		r.put(m, fmt.Sprint(i), red)
	}
	c := r.connect("alice")
	for _, x := range []struct {
		index, query string
		status, code int
	}{
		{"none", "", 404, 54500},
		{"many", "team ==", 400, 54507},
		{"many", "", 400, 54510},
	} {
		answer := c.do("POST", "/v3/Insights/"+x.index+"/Items", fmt.Sprintf(`{"query_string":%q}`, x.query))
		require.Equal(t, x.status, answer.HTTP.Code)
		require.Contains(t, string(answer.Payload), fmt.Sprintf(`"code":%d`, x.code))
		id, _, _ := c.ask("other", "")
		if x.code == 54510 {
			r.removeItem(m, "0")
			id, _, _ = c.ask("many", "")
			r.put(m, "0", red)
		}
		c.subscribe(3, toQuery(id, x.index, x.query, 0))
		failed := c.event("subscription_failed")
		require.Equal(t, x.code, failed.Event.Error.Code)
		require.Equal(t, "3", string(failed.Correlation))
	}
	id, _, _ := c.ask("other", "")
	c.subscribe(3, toQuery(id, "many", "", 0))
	require.Equal(t, 404, c.event("subscription_failed").Event.Error.Status, "the id of another query")
	eventually(t, func() bool { return r.queries() == 0 })

	r.controlAccess()
	require.Equal(t, 403, c.do("POST", "/v3/Insights/secret/Items", `{"query_string":""}`).HTTP.Code)
	c.subscribe(4, toQuery(id, "secret", "", 0))
	require.Equal(t, 403, c.event("subscription_failed").Event.Error.Status)
}

func TestLiveQueryEndsWithPermissionAndMap(t *testing.T) {
	r := start(t)
	r.controlAccess()
	m := r.create(objects.KindMap, "m")
	r.allow(m, "alice", objects.Read)
	r.allow(m, "bob", objects.Read)
	alice, bob := r.connect("alice"), r.connect("bob")
	alice.watch("m", "")
	bob.watch("m", "")
	r.allow(m, "alice", 0)
	failed := alice.event("subscription_failed")
	require.Equal(t, 403, failed.Event.Error.Status)
	require.Equal(t, "null", string(failed.Correlation))
	r.put(m, "k", "1")
	bob.event("live_query_item_updated")
	alice.quiet()
	r.removeObject(m)
	require.Equal(t, 404, bob.event("subscription_failed").Event.Error.Status)
	eventually(t, func() bool { return r.server.hub.Topics() == 0 && count(r.server.metrics.subscriptions) == 0 })
}

func TestLiveQueryCatchesUpWithWhatWasLost(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	r.put(m, "leaves", red)
	r.put(m, "removed", red)
	r.put(m, "stays", red)
	c, other := r.connect("alice"), r.connect("other")
	id := c.watch("m", `team == "red"`)
	other.follow(m, 3)
	live := r.query(id)
	r.server.hub.Unfollow(live, m.SID) // what happens now is missed
	r.put(m, "leaves", "1")
	r.removeItem(m, "removed")
	r.put(m, "joins", red)
	for other.next().Event.Events[0].ID < 6 {
	}
	r.server.hub.Follow(live, m.SID)
	live.Lost()
	require.Equal(t, "leaves", c.event("live_query_item_removed").Events[0].Key)
	require.Equal(t, "removed", c.event("live_query_item_removed").Events[0].Key)
	joined := c.event("live_query_item_updated").Events[0]
	require.Equal(t, "joins", joined.Key)
	require.Equal(t, "6", string(joined.Revision))
	c.quiet()
}

func (r *rig) queries() int {
	r.server.queries.mu.Lock()
	defer r.server.queries.mu.Unlock()
	return len(r.server.queries.byID)
}

func (r *rig) query(id string) *liveQuery {
	r.server.queries.mu.Lock()
	defer r.server.queries.mu.Unlock()
	return r.server.queries.byID[id]
}

func TestLiveQueryComparesWhenRemovalsAreForgotten(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	r.put(m, "removed", red)
	r.put(m, "changes", red)
	c := r.connect("alice")
	live := r.query(c.watch("m", `team == "red"`))
	live.mu.Lock()
	next := map[string]*objects.Item{"changes": {Key: "changes", Data: []byte("2"), EventID: 5}}
	live.compare(next, 6)
	live.mu.Unlock()
	removed := c.event("live_query_item_removed").Events[0]
	require.Equal(t, "removed", removed.Key)
	require.Equal(t, "6", string(removed.Revision))
	require.Equal(t, "5", string(c.event("live_query_item_updated").Events[0].Revision))
}
