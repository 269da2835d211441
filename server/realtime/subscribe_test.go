package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

func TestReplyThenReplayThenEstablishedThenLive(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	r.put(m, "a", `{"n":1}`)
	r.put(m, "b", `{"n":2}`)
	r.put(m, "a", `{"n":3}`)
	r.removeItem(m, "b")
	c := r.connect("alice")
	c.subscribe(9007199254740993, to(m, 0))
	added := c.event("map_item_added")
	require.Equal(t, "9007199254740993", string(added.Correlation), "digits are given back")
	require.Equal(t, objects.EventID(3), added.Events[0].ID)
	require.JSONEq(t, `{"n":3}`, string(added.Events[0].Item))
	require.Equal(t, "http://node/v3/Maps/"+m.SID.String()+"/Items/a", added.Events[0].URL)
	require.Equal(t, objects.EventID(4), c.event("map_item_removed").Events[0].ID)
	established := c.event("subscription_established")
	require.Equal(t, "completed", established.Event.Replay)
	require.Equal(t, objects.EventID(4), *established.Event.Last)
	r.put(m, "a", `{"n":4}`)
	live := c.event("map_item_updated")
	require.Nil(t, live.Correlation)
	require.Equal(t, objects.EventID(5), live.Events[0].ID)
	c.quiet()
}

func TestWithoutLastEventNothingOldIsReplayed(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	r.put(m, "a", `1`)
	c := r.connect("alice")
	c.subscribe(1, fmt.Sprintf(`{"object_sid":%q,"object_type":"map","last_event_id":null}`, m.SID))
	require.Equal(t, objects.EventID(1), *c.event("subscription_established").Event.Last)

	// What the session has fetched of the object counts as known, and no more.
	other := r.create(objects.KindMap, "other")
	r.put(other, "a", `1`)
	require.Equal(t, 200, c.do("GET", "/v3/Maps/other/Items", "").HTTP.Code)
	r.put(other, "b", `2`)
	require.Equal(t, 200, c.do("GET", "/v3/Maps/other/Items/b", "").HTTP.Code)
	c.subscribe(2, fmt.Sprintf(`{"object_sid":%q,"object_type":"map"}`, other.SID))
	require.Equal(t, objects.EventID(2), c.event("map_item_added").Events[0].ID)
	c.event("subscription_established")
}

func TestRefusedSubscriptions(t *testing.T) {
	r := start(t)
	r.controlAccess()
	secret := r.create(objects.KindMap, "secret")
	elsewhere := objects.NewSID(objects.KindService, [16]byte{5})
	r.node.Must(&fsm.CreateService{SID: elsewhere})
	foreign := objects.NewSID(objects.KindMap, fsm.NewID())
	_, err := r.node.Propose(t.Context(), &fsm.Command{ID: fsm.NewID(), Service: elsewhere, Op: &fsm.CreateObject{SID: foreign}})
	require.NoError(t, err)
	mine := r.create(objects.KindMap, "mine")
	r.allow(mine, "alice", objects.Read)
	c := r.connect("alice")
	for name, x := range map[string]struct {
		request      string
		status, code int
	}{
		"no object":              {to(&objects.Object{SID: objects.NewSID(objects.KindMap, [16]byte{9})}, 0), 404, 54200},
		"another kind":           {fmt.Sprintf(`{"object_sid":%q,"object_type":"list"}`, mine.SID), 404, 20404},
		"unknown type":           {fmt.Sprintf(`{"object_sid":%q,"object_type":"thing"}`, mine.SID), 404, 20404},
		"a name":                 {`{"object_sid":"mine","object_type":"map"}`, 404, 20404},
		"of another service":     {to(&objects.Object{SID: foreign}, 0), 404, 54200},
		"not to be read":         {to(secret, 0), 403, 54007},
		"more than ever existed": {to(mine, 7), 410, 54008},
	} {
		c.subscribe(5, x.request)
		failed := c.event("subscription_failed")
		require.Equal(t, x.status, failed.Event.Error.Status, name)
		require.Equal(t, x.code, failed.Event.Error.Code, name)
		require.Equal(t, "5", string(failed.Correlation), name)
	}
	require.Zero(t, count(r.server.metrics.subscriptions))
	eventually(t, func() bool { return r.server.hub.Topics() == 0 })
}

func TestInvalidBatches(t *testing.T) {
	c := start(t).connect("a")
	for _, body := range []string{
		"", "x", "{}", `{"action":"establish","requests":[]}`,
		`{"action":"other","correlation_id":1,"requests":[]}`, `{"action":"cancel","correlation_id":1}`,
		`{"action":"establish","correlation_id":null,"requests":[]}`, `{"action":"establish","correlation_id":"1","requests":[]}`,
		"{\"action\":\"establish\",\"correlation_id\":{\r\n},\"requests\":[]}",
		`{"action":"establish","correlation_id":1,"requests":[` + strings.Repeat("{},", maxBatch) + `{}]}`,
	} {
		require.Equal(t, 400, c.do("POST", "/v4/Subscriptions", body).HTTP.Code, "%.80s", body)
	}
	c.subscribe(1)
	c.quiet()
}

func TestLimitOfSubscriptions(t *testing.T) {
	r := start(t)
	c := r.connect("a")
	x := r.sessions()[0]
	m := r.create(objects.KindMap, "m")
	x.mu.Lock()
	for i := range objects.MaxSubscriptions {
		sid := objects.NewSID(objects.KindMap, [16]byte{1, byte(i >> 8), byte(i)})
		x.subs[sid] = &subscription{object: sid}
	}
	x.mu.Unlock()
	c.subscribe(1, to(m, 0))
	failed := c.event("subscription_failed").Event
	require.Equal(t, 429, failed.Error.Status)
	require.Equal(t, 54419, failed.Error.Code)
}

func TestManySubscriptionsAtOnce(t *testing.T) {
	r := start(t)
	c := r.connect("a")
	const n = 500 // more than a batch as told to clients
	all := map[string]bool{}
	var requests []string
	for range n {
		d := r.create(objects.KindDocument, "")
		all[d.SID.String()] = true
		requests = append(requests, to(d, 0))
	}
	c.subscribe(1, requests...)
	for range n {
		sid := c.event("subscription_established").Event.Object
		require.True(t, all[sid])
		delete(all, sid)
	}
	require.Equal(t, float64(n), count(r.server.metrics.subscriptions))
}

func TestRepeatedEstablishStartsAfresh(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	last := r.put(m, "a", "1")
	c := r.connect("a")
	c.follow(m, last)
	c.subscribe(2, to(m, 0))
	require.Equal(t, "2", string(c.event("map_item_added").Correlation))
	require.Equal(t, "2", string(c.event("subscription_established").Correlation))
	require.Equal(t, 1.0, count(r.server.metrics.subscriptions))
	r.put(m, "a", "2")
	c.event("map_item_updated")
	c.quiet()
}

func TestCancel(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	c := r.connect("a")
	c.follow(m, 0)
	c.batch("cancel", 3, to(m, 0), `{"object_sid":"QRunknown","object_type":"live_query"}`)
	canceled := c.event("subscription_canceled")
	require.Equal(t, m.SID.String(), canceled.Event.Object)
	require.Equal(t, "3", string(canceled.Correlation))
	require.Equal(t, "QRunknown", c.event("subscription_canceled").Event.Object)
	r.put(m, "a", "1")
	c.quiet()
	eventually(t, func() bool { return r.server.hub.Topics() == 0 })
}

func TestCancelWhileReplaying(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueLength = 8 })
	m := r.create(objects.KindMap, "m")
	const n = 300
	for i := range n {
		r.put(m, fmt.Sprintf("k%03d", i), "1")
	}
	c := r.openPipe()
	c.send(map[string]any{"method": "init", "token": token(t, "a")}, nil)
	_, _, err := c.conn.ReadMessage()
	require.NoError(t, err)
	body := `{"action":%q,"correlation_id":%d,"requests":[` + to(m, 0) + `]}`
	c.request("POST", "/v4/Subscriptions", fmt.Sprintf(body, "establish", 1))
	c.request("POST", "/v4/Subscriptions", fmt.Sprintf(body, "cancel", 2))
	go c.readAll()
	events := 0
	for {
		f := c.next()
		switch f.Event.Type {
		case "map_item_added":
			events++
			continue
		case "subscription_canceled":
			require.Equal(t, "2", string(f.Event.Correlation))
			require.Less(t, events, n)
			c.quiet()
			return
		}
		require.NotEqual(t, "subscription_established", f.Event.Type)
	}
}

func TestEstablishWithoutQuorumIsCanceled(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	c := r.connect("a")
	r.node.failReads(errors.New("no leader"))
	c.subscribe(4, to(m, 0), `{"object_sid":"QR1","object_type":"live_query","index_name":"m","query_string":""}`)
	for range 2 {
		require.Equal(t, "4", string(c.event("subscription_canceled").Correlation), "so the client asks again")
	}
	require.Zero(t, count(r.server.metrics.subscriptions))
}

func TestEchoOfOwnWritesFollowsTheReply(t *testing.T) {
	r := start(t)
	d, l, m := r.create(objects.KindDocument, "d"), r.create(objects.KindList, "l"), r.create(objects.KindMap, "m")
	r.put(m, "k", "1")
	s := r.create(objects.KindStream, "s")
	writer, reader := r.connect("writer"), r.connect("reader")
	for _, c := range []*client{writer, reader} {
		c.follow(d, 0)
		c.follow(l, 0)
		c.follow(m, 1)
		c.follow(s, 0)
	}
	for _, x := range []struct {
		method, path, body string
		event              string
		echoed             bool
	}{
		{"POST", "/v3/Documents/d", `{"data":{"n":1}}`, "document_updated", true},
		{"POST", "/v3/Lists/l/Items", `{"data":{"n":1}}`, "list_item_added", true},
		{"POST", "/v3/Lists/l/Items/0", `{"data":{"n":1}}`, "list_item_updated", true},
		{"POST", "/v3/Lists/l/Context", `{"data":{"n":1}}`, "list_context_updated", true},
		{"DELETE", "/v3/Lists/l/Items/0", "data_sync", "list_item_removed", false},
		{"PUT", "/v3/Maps/m/Items/k", `{"data":{"n":2}}`, "map_item_updated", true},
		{"DELETE", "/v3/Maps/" + m.SID.String() + "/Items/k", "data_sync", "map_item_removed", false},
		{"POST", "/v3/Streams/s/Messages", `{"data":{"n":1}}`, "stream_message_published", false},
		{"DELETE", "/v3/Documents/d", "", "document_removed", true},
		{"DELETE", "/v3/Lists/l", "", "list_removed", true},
		{"DELETE", "/v3/Maps/m", "", "map_removed", true},
		{"DELETE", "/v3/Streams/s", "", "stream_removed", true},
	} {
		// The event is out before the answer comes back.
		release := r.node.keepAnswers()
		id := writer.request(x.method, x.path, x.body)
		reader.event(x.event)
		release()
		require.Less(t, writer.reply(id).HTTP.Code, 300, x.path)
		if x.echoed {
			writer.event(x.event)
		}
		writer.quiet()
		reader.quiet()
	}
}

func TestEventsBehindOnesOwnAreHeldWithIt(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	c, other := r.connect("a"), r.connect("b")
	c.follow(m, 0)
	other.follow(m, 0)
	release := r.node.keepAnswers()
	id := c.request("PUT", "/v3/Maps/m/Items/mine", `{"data":{}}`)
	other.event("map_item_added")
	r.put(m, "theirs", "1")
	other.event("map_item_added")
	c.quiet()
	release()
	c.reply(id)
	require.Equal(t, "mine", c.event("map_item_added").Events[0].Key)
	require.Equal(t, "theirs", c.event("map_item_added").Events[0].Key)
}

func TestTooMuchHeldFallsBehindAndCatchesUpAfterTheReply(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueLength = 10 })
	m := r.create(objects.KindMap, "m")
	r.put(m, "gone", "1")
	c, other := r.connect("a"), r.connect("b")
	c.follow(m, 1)
	other.follow(m, 1)
	release := r.node.keepAnswers()
	id := c.request("DELETE", "/v3/Maps/m/Items/gone", "")
	other.event("map_item_removed")
	const n = 30
	for i := range n {
		r.put(m, fmt.Sprint(i), "1")
		other.event("map_item_added")
	}
	require.Equal(t, 1.0, count(r.server.metrics.behind))
	c.quiet()
	release()
	c.reply(id)
	for i := range n {
		e := c.event("map_item_added") // not the removal: the reply told it
		require.Equal(t, objects.EventID(3+i), e.Events[0].ID)
		require.Nil(t, e.Correlation)
	}
	c.quiet()
	x := r.session("a")
	x.mu.Lock()
	defer x.mu.Unlock()
	require.Zero(t, x.held)
	require.Zero(t, x.heldBytes)
}

func TestReplayWaitsForTheReplyToOnesOwnWrite(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	c := r.connect("a")
	release := r.node.keepAnswers()
	id := c.request("PUT", "/v3/Maps/m/Items/k", `{"data":{}}`)
	eventually(t, func() bool { o, _ := r.node.View().ObjectBySID(m.SID); return o.EventID == 1 })
	c.subscribe(1, to(m, 0))
	c.quiet()
	release()
	require.Equal(t, 201, c.reply(id).HTTP.Code)
	c.event("map_item_added")
	c.event("subscription_established")
}

func TestRemovedWhileHeldOrBehind(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueLength = 4 })
	m := r.create(objects.KindMap, "m")
	c, other := r.connect("a"), r.connect("b")
	c.follow(m, 0)
	other.follow(m, 0)
	release := r.node.keepAnswers()
	id := c.request("PUT", "/v3/Maps/m/Items/k", `{"data":{}}`)
	other.event("map_item_added")
	r.removeObject(m)
	other.event("map_removed")
	c.quiet()
	release()
	c.reply(id)
	c.event("map_item_added")
	c.event("map_removed")

	m = r.create(objects.KindMap, "m")
	c.follow(m, 0)
	other.follow(m, 0)
	release = r.node.keepAnswers()
	id = c.request("PUT", "/v3/Maps/m/Items/k", `{"data":{}}`)
	other.event("map_item_added")
	for range 5 {
		r.put(m, "k", "1")
		other.event("map_item_updated")
	}
	r.removeObject(m)
	other.event("map_removed")
	release()
	c.reply(id)
	failed := c.event("subscription_failed")
	require.Equal(t, 404, failed.Event.Error.Status, "to the client, removed")
	require.Equal(t, "null", string(failed.Correlation))
	c.quiet()
	eventually(t, func() bool { return r.server.hub.Topics() == 0 })
}

func TestRevokedPermissionEndsSubscriptionsAtOnce(t *testing.T) {
	r := start(t)
	r.controlAccess()
	m := r.create(objects.KindMap, "m")
	r.allow(m, "alice", objects.Read|objects.Write)
	r.allow(m, "bob", objects.Read)
	alice, bob := r.connect("alice"), r.connect("bob")
	alice.follow(m, 0)
	bob.follow(m, 0)
	release := r.node.keepAnswers()
	held := alice.request("PUT", "/v3/Maps/m/Items/k", `{"data":{}}`)
	bob.event("map_item_added")
	r.allow(m, "alice", objects.Write)
	failed := alice.next()
	require.Contains(t, string(failed.Payload), `"correlation_id":null`, "an explicit null")
	require.Equal(t, 403, failed.Event.Event.Error.Status)
	require.Equal(t, 54007, failed.Event.Event.Error.Code)
	release()
	require.Equal(t, 201, alice.reply(held).HTTP.Code)
	r.put(m, "k", "2")
	bob.event("map_item_updated")
	alice.quiet()
	alice.subscribe(2, to(m, 0))
	require.Equal(t, 403, alice.event("subscription_failed").Event.Error.Status)
	r.allow(m, "alice", objects.Read)
	alice.subscribe(3, to(m, 2))
	alice.event("subscription_established")
}

func TestPermissionRevokedWhileReplaying(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueLength = 8 })
	r.controlAccess()
	m := r.create(objects.KindMap, "m")
	r.allow(m, "a", objects.Read)
	for i := range 300 {
		r.put(m, fmt.Sprintf("k%03d", i), "1")
	}
	c := r.openPipe()
	c.send(map[string]any{"method": "init", "token": token(t, "a")}, nil)
	_, _, err := c.conn.ReadMessage()
	require.NoError(t, err)
	c.request("POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":1,"requests":[`+to(m, 0)+`]}`)
	_, _, err = c.conn.ReadMessage() // the reply; the replay waits for its reader
	require.NoError(t, err)
	r.allow(m, "a", 0)
	go c.readAll()
	for {
		if f := c.next(); f.Event.Type != "map_item_added" {
			require.Equal(t, "subscription_failed", f.Event.Type)
			require.Equal(t, 403, f.Event.Event.Error.Status)
			require.Equal(t, "1", string(f.Event.Correlation))
			break
		}
	}
	c.quiet()
}

func TestSwitchedOnAccessControlEndsSubscriptions(t *testing.T) {
	r := start(t)
	m, s := r.create(objects.KindMap, "m"), r.create(objects.KindStream, "s")
	c := r.connect("a")
	c.follow(m, 0)
	c.follow(s, 0)
	r.controlAccess()
	require.Equal(t, m.SID.String(), c.event("subscription_failed").Event.Object)
	r.publish(s, "1")
	c.event("stream_message_published")
}

func TestExpiryIsARemoval(t *testing.T) {
	r := start(t)
	m := r.create(objects.KindMap, "m")
	c := r.connect("a")
	c.follow(m, 0)
	r.node.Must(&fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m.SID}, Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: []byte("1"), TTL: new(int64(1))})
	c.event("map_item_added")
	eventually(t, func() bool { r.node.Expire(); o, _ := r.node.View().ObjectBySID(m.SID); return o.Items == 0 })
	c.event("map_item_removed")
}

func TestLostEventsAreCaughtUp(t *testing.T) {
	r := start(t)
	m, fresh := r.create(objects.KindMap, "m"), r.create(objects.KindMap, "fresh")
	c, other := r.connect("a"), r.connect("other")
	c.follow(m, 0)
	other.follow(m, 0)
	x := r.session("a")
	r.server.hub.Unfollow(x, m.SID) // what happens now is missed
	r.put(m, "a", "1")
	r.put(m, "b", "1")
	r.removeItem(m, "b")
	for other.next().Event.Type != "map_item_removed" {
	}
	r.server.hub.Follow(x, m.SID)
	x.following.Lock() // keeps a new subscription from beginning
	id := c.request("POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":7,"requests":[`+to(fresh, 0)+`]}`)
	require.Equal(t, 200, c.reply(id).HTTP.Code)
	x.Lost()
	require.Equal(t, "a", c.event("map_item_added").Events[0].Key)
	require.Equal(t, "b", c.event("map_item_removed").Events[0].Key)
	x.following.Unlock()
	require.Equal(t, "7", string(c.event("subscription_established").Correlation))
	r.put(m, "c", "1")
	c.event("map_item_added")
}

func TestFullQueueFallsBehindAndCatchesUp(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"frames": func(c *Config) { c.QueueLength = 16 },
		"bytes":  func(c *Config) { c.QueueBytes = 8000 },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, limit)
			m := r.create(objects.KindMap, "m")
			slow, fast := r.openPipe(), r.connect("fast")
			slow.send(map[string]any{"method": "init", "token": token(t, "slow")}, nil)
			go slow.readAll()
			slow.next()
			slow.follow(m, 0)
			fast.follow(m, 0)

			stop := make(chan struct{})
			slow.conn.SetPingHandler(func(string) error { <-stop; return nil })
			x := r.session("slow")
			x.outbox.push(append(appendWebsocketHeader(nil, 0x9, 1), 'x')) // from here it reads nothing
			const n = 200
			for i := range n {
				r.put(m, fmt.Sprint("k", i%50), fmt.Sprint(i))
				require.Equal(t, objects.EventID(i+1), fast.next().Event.Events[0].ID, "the others do not wait")
			}
			require.NotZero(t, count(r.server.metrics.behind))
			x.outbox.mu.Lock()
			require.LessOrEqual(t, len(x.outbox.frames), 1024)
			require.LessOrEqual(t, x.outbox.bytes, max(8000, x.outbox.maxBytes))
			x.outbox.mu.Unlock()
			close(stop)
			state, last := map[string]string{}, objects.EventID(0)
			for last < n {
				e := slow.next().Event.Events[0]
				require.Greater(t, e.ID, last)
				last, state[e.Key] = e.ID, string(e.Item)
			}
			require.Len(t, state, 50)
			for i := n - 50; i < n; i++ {
				require.Equal(t, fmt.Sprint(i), state[fmt.Sprint("k", i%50)])
			}
			slow.quiet()
		})
	}
}

func TestStreamMessagesGiveWayOldestFirst(t *testing.T) {
	r := start(t, func(c *Config) { c.QueueLength = 4 })
	s := r.create(objects.KindStream, "s")
	slow, fast := r.openPipe(), r.connect("fast")
	slow.send(map[string]any{"method": "init", "token": token(t, "slow")}, nil)
	go slow.readAll()
	slow.next()
	slow.follow(s, 0)
	fast.follow(s, 0)
	stop := make(chan struct{})
	slow.conn.SetPingHandler(func(string) error { <-stop; return nil })
	x := r.session("slow")
	x.outbox.push(append(appendWebsocketHeader(nil, 0x9, 1), 'x'))
	eventually(t, func() bool { x.outbox.mu.Lock(); defer x.outbox.mu.Unlock(); return len(x.outbox.frames) == 0 })
	const n = 50
	for i := range n {
		r.publish(s, fmt.Sprint(i))
		require.Equal(t, fmt.Sprint(i), string(fast.event("stream_message_published").Events[0].Message))
	}
	dropped := int(count(r.server.metrics.dropped))
	require.NotZero(t, dropped)
	close(stop)
	last, got := -1, 0
	for last < n-1 {
		var i int
		require.NoError(t, json.Unmarshal(slow.event("stream_message_published").Events[0].Message, &i))
		require.Greater(t, i, last)
		last, got = i, got+1
	}
	require.Equal(t, n, got+dropped)
}

func TestBusyObjectDoesNotKeepAnotherFromCatchingUp(t *testing.T) {
	r := start(t)
	busy, other := r.create(objects.KindMap, "busy"), r.create(objects.KindMap, "other")
	r.put(other, "k", "1")
	c := r.connect("a")
	c.follow(busy, 0)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				r.put(busy, "k", "1")
			}
		}
	}()
	id := c.request("POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":2,"requests":[`+to(other, 0)+`]}`)
	for c.next().ID != id {
	}
	for c.next().Event.Type != "subscription_established" {
	}
	close(stop)
	<-stopped
}

func TestRequestIDsMakeARepeatedWriteOne(t *testing.T) {
	r := start(t)
	l := r.create(objects.KindList, "l")
	c := r.connect("a")
	c.follow(l, 0)
	for range 3 {
		require.Equal(t, 201, c.do("POST", "/v3/Lists/l/Items", `{"data":{}}`, ":twilio-request-id", "RQ1").HTTP.Code)
		if l.EventID == 0 {
			c.event("list_item_added")
			l = &objects.Object{SID: l.SID, EventID: 1}
		}
	}
	c.quiet()
	o, _ := r.node.View().ObjectBySID(l.SID)
	require.Equal(t, uint64(1), o.Items)
}
