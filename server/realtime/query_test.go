package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/realtime"
)

const reds = `team == "red"`

func (c *client) query(name, text string) (id string, at float64, keys string) {
	c.Helper()
	q, err := json.Marshal(map[string]any{"query_string": text, "type": "live_query"})
	require.NoError(c, err)
	r := c.http(200, "POST", "/v3/Insights/"+name+"/Items", string(q))
	for _, i := range r["items"].([]any) {
		keys += i.(map[string]any)["key"].(string)
	}
	return r["query_id"].(string), r["last_event_id"].(float64), keys
}

func queryWish(id string, at float64, name, text string) map[string]any {
	w := wish(id, "live_query", at)
	w["index_name"], w["query_string"] = name, text
	return w
}

func named(c *client, name string) (sid string) {
	return c.http(201, "POST", "/v3/Maps", `{"unique_name":"`+name+`"}`)["sid"].(string)
}

func TestLiveQueryFollowsItsResult(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		writer, a, b := w.connect("writer"), w.connect("a"), w.connect("b")
		m := named(writer, "people")
		writer.put(m, "ann", `{"team":"red"}`)
		writer.put(m, "ben", `{"team":"blue"}`)
		id, at, keys := a.query("people", reds)
		require.Equal(w, "ann", keys)
		same, _, _ := b.query("people", `data.team EQ "red"`)
		require.Equal(w, id, same, "equal queries share one id")
		a.subscribe(1, queryWish(id, at, "people", reds))
		require.Equal(w, []string{"subscription_established 2 (1)"}, a.heard(1))

		writer.put(m, "eve", `{"team":"red"}`)
		b.subscribe(2, queryWish(id, at, "people", reds))
		require.Equal(w, []string{"live_query_updated 3 ann eve", "subscription_established 3 (2)"}, b.heard(2))
		writer.put(m, "ann", `{"team":"blue"}`)
		writer.put(m, "ben", `{"team":"blue","v":2}`)
		writer.http(200, "DELETE", "/v3/Maps/"+m+"/Items/eve", "data_sync")
		a.heard(1)
		for _, c := range []*client{a, b} {
			require.Equal(w, []string{`live_query_item_removed ann {"team":"blue"}`, `live_query_item_removed eve {"team":"red"}`}, c.heard(2))
			c.silent()
		}
		b.subscription("cancel", 3, queryWish(id, 0, "people", reds))
		require.Equal(w, []string{"subscription_canceled (3)"}, b.heard(1))
		writer.http(204, "DELETE", "/v3/Maps/"+m, "data_sync")
		require.Equal(w, []string{"subscription_failed 404 54200 (null)"}, a.heard(1))
		b.silent()
	})
}

// However many clients follow equal queries, a change is evaluated once, and the
// other items are not looked at.
func TestEqualQueriesShareTheirWork(t *testing.T) {
	metrics := prometheus.NewRegistry()
	inWorld(t, func(c *realtime.Config) { c.Metrics = metrics }, func(w *world) {
		evaluated := func() float64 { return metric(w, metrics, "lockstep_query_evaluations_total") }
		writer := w.connect("writer")
		m := named(writer, "people")
		const items = 50
		for i := range items {
			writer.put(m, fmt.Sprint("k", i), `{"team":"blue"}`)
		}
		var clients []*client
		for i := range 10 {
			c := w.connect(fmt.Sprint("c", i))
			id, at, _ := c.query("people", []string{reds, `(data.team EQ "red")`}[i%2])
			c.subscribe(1, queryWish(id, at, "people", reds))
			require.Equal(w, []string{"subscription_established 50 (1)"}, c.heard(1))
			clients = append(clients, c)
		}
		require.EqualValues(w, 2*items, evaluated(), "the first instant query, and loading the live one; the others found its result")
		writer.put(m, "k0", `{"team":"red"}`)
		for _, c := range clients {
			require.Equal(w, []string{`live_query_item_updated k0 {"team":"red"}`}, c.heard(1))
		}
		require.EqualValues(w, 2*items+1, evaluated())
	})
}

func TestLiveQueriesCountAsSubscriptions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		named(c, "people")
		var wishes []map[string]any
		for i := range 10 {
			text := fmt.Sprintf(`n == "%d"`, i)
			id, at, _ := c.query("people", text)
			wishes = append(wishes, queryWish(id, at, "people", text))
		}
		for at := 0; at < objects.MaxSubscriptions-5; at += 95 {
			var documents []map[string]any
			for range min(95, objects.MaxSubscriptions-5-at) {
				sid := objects.NewSID(objects.KindDocument, commandid.New())
				w.node.Must(&fsm.CreateObject{SID: sid, Data: objects.EmptyObject})
				documents = append(documents, wish(sid.String(), "document", 0))
			}
			c.subscribe(1, documents...)
			c.heard(len(documents))
		}
		c.subscribe(2, wishes...)
		heard := map[string]int{}
		for _, h := range c.heard(10) {
			heard[h]++
		}
		require.Equal(w, map[string]int{"subscription_established 0 (2)": 5, "subscription_failed 429 54419 (2)": 5}, heard)
	})
}

func TestLiveQueryIsRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m := named(c, "people")
		id, at, _ := c.query("people", reds)
		c.subscribe(1,
			queryWish(id, at, "nothing", reds), queryWish(id, at, "people", `team ==`), queryWish(id, at, "people", `team == "blue"`))
		require.ElementsMatch(w, []string{
			"subscription_failed 404 54500 (1)", "subscription_failed 400 54507 (1)", "subscription_failed 404 54500 (1)",
		}, c.heard(3))
		for i := range objects.MaxQueryResult {
			c.put(m, fmt.Sprintf("k%03d", i), `{"team":"red"}`)
		}
		id, at, _ = c.query("people", reds)
		c.subscribe(2, queryWish(id, at, "people", reds))
		require.Equal(w, []string{"subscription_established 200 (2)"}, c.heard(1))
		c.put(m, "more", `{"team":"red"}`)
		require.Equal(w, []string{"subscription_failed 400 54510 (null)"}, c.heard(1))
		require.EqualValues(w, 54510, c.http(400, "POST", "/v3/Insights/people/Items", `{"query_string":""}`)["code"])
	})
}

func TestLiveQueryNeedsThePermissionToRead(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		yes := true
		w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
		owner, c := w.connect("owner"), w.connect("alice")
		sid, _ := objects.ParseSID(named(owner, "people"))
		grant := func(r objects.Rights) {
			w.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{SID: sid}, Identity: "alice", Rights: r})
		}
		c.http(403, "POST", "/v3/Insights/people/Items", `{"query_string":""}`)
		grant(objects.Read)
		id, at, _ := c.query("people", reds)
		c.subscribe(1, queryWish(id, at, "people", reds))
		c.heard(1)
		grant(0)
		require.Equal(w, []string{"subscription_failed 403 54007 (null)"}, c.heard(1))
	})
}

// TestSnapshotResynchronisesEverybody: what was never applied here is found in
// the new state.
func TestSnapshotResynchronisesEverybody(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m := named(c, "people")
		c.put(m, "ann", `{"team":"red"}`)
		id, at, _ := c.query("people", reds)
		c.subscribe(1, wish(m, "map", at), queryWish(id, at, "people", reds))
		c.heard(2)
		before := snapshot(w)
		c.put(m, "ben", `{"team":"red"}`)
		c.http(200, "DELETE", "/v3/Maps/"+m+"/Items/ann", "data_sync")
		c.heard(3) // the echo of the put, and the query's two
		after := snapshot(w)
		c.subscription("cancel", 2, queryWish(id, 0, "people", reds))
		c.heard(1)
		require.NoError(w, w.node.FSM().Restore(before))
		other := w.connect("bob")
		other.subscribe(1, wish(m, "map", 1), queryWish(id, 1, "people", reds))
		other.heard(2)
		require.NoError(w, w.node.FSM().Restore(after))
		require.ElementsMatch(w, []string{
			`map_item_added 2 ben {"team":"red"}`, `map_item_removed 3 ann {"team":"red"}`,
			`live_query_item_updated ben {"team":"red"}`, `live_query_item_removed ann {"team":"red"}`,
		}, other.heard(4))
	})
}

func snapshot(w *world) io.ReadCloser {
	var b bytes.Buffer
	require.NoError(w, w.node.FSM().WriteSnapshot(&b))
	return io.NopCloser(&b)
}

// meteredNode has so many tokens for queries.
type meteredNode struct {
	*fsmtest.Node
	tokens atomic.Int64
	asked  atomic.Int64
}

func (n *meteredNode) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	if bucket.Class == objects.BucketQueries {
		n.asked.Add(1)
		if n.tokens.Add(-1) < 0 {
			return nil, exhausted{}
		}
	}
	return n.Node.Read(ctx, bucket)
}

type exhausted struct{}

func (exhausted) Error() string             { return "exhausted" }
func (exhausted) RetryAfter() time.Duration { return time.Second }

// A live query costs as much as one that is asked once. One that cannot be paid
// for is refused alone, and the index is not asked over and over again.
func TestLiveQueryIsPaidFor(t *testing.T) {
	var n *meteredNode
	inWorld(t, func(c *realtime.Config) {
		n = &meteredNode{Node: c.Node.(*fsmtest.Node)}
		c.Node, c.API = n, api.New(n)
	}, func(w *world) {
		c := w.connect("alice")
		m := named(c, "people")
		n.tokens.Store(1000)
		var wishes []map[string]any
		for i := range 100 {
			text := fmt.Sprintf(`n == "%d"`, i)
			id, at, _ := c.query("people", text)
			wishes = append(wishes, queryWish(id, at, "people", text))
		}
		n.tokens.Store(3)
		n.asked.Store(0)
		c.subscribe(1, append(wishes, wish(m, "map", 0))...)
		heard := map[string]int{}
		for _, h := range c.heard(101) {
			heard[h]++
		}
		require.Equal(w, map[string]int{"subscription_established 0 (1)": 4, "subscription_failed 429 54009 (1)": 97}, heard)
		require.LessOrEqual(w, n.asked.Load(), int64(3+8), "no more than were under way at a time")
	})
}

// Bounds of live queries refuse the one that is too many, and what is given up
// makes room.
func TestLiveQueriesOfAnIdentityAreBounded(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.LiveQueries.PerIdentity = 2 }, func(w *world) {
		c, other := w.connect("alice"), w.connect("bob")
		named(c, "people")
		var wishes []map[string]any
		for i := range 3 {
			text := fmt.Sprintf(`n == "%d"`, i)
			id, at, _ := c.query("people", text)
			wishes = append(wishes, queryWish(id, at, "people", text))
		}
		var heard []string
		for i, wish := range wishes {
			c.subscribe(i, wish)
			heard = append(heard, c.heard(1)...)
		}
		require.Equal(w, []string{"subscription_established 0 (0)", "subscription_established 0 (1)", "subscription_failed 429 20429 (2)"}, heard)
		other.subscribe(1, wishes[2])
		require.Equal(w, []string{"subscription_established 0 (1)"}, other.heard(1))
		c.subscription("cancel", 3, wishes[0])
		c.heard(1)
		c.subscribe(4, wishes[2])
		require.Equal(w, []string{"subscription_established 0 (4)"}, c.heard(1))
	})
}
