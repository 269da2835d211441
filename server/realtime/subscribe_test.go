package realtime_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/realtime"
)

func TestReplayThenEstablishedThenLive(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		reader, writer := w.connect("reader"), w.connect("writer")
		m := writer.create("Maps")
		for i := range 5 {
			writer.put(m, fmt.Sprint("k", i), fmt.Sprint(i))
		}
		reader.subscribe(77, wish(m, "map", 2))
		require.Equal(w, []string{
			"map_item_added 3 k2 2 (77)", "map_item_added 4 k3 3 (77)", "map_item_added 5 k4 4 (77)", "subscription_established 5 (77)",
		}, reader.heard(4))
		writer.put(m, "k0", "9")
		writer.http(200, "DELETE", "/v3/Maps/"+m+"/Items/k1", "data_sync")
		require.Equal(w, []string{"map_item_updated 6 k0 9", "map_item_removed 7 k1 1"}, reader.heard(2))
		writer.http(204, "DELETE", "/v3/Maps/"+m, "data_sync")
		require.Equal(w, []string{"map_removed 8"}, reader.heard(1))
		reader.silent()
	})
}

func TestEveryKindIsHeard(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		reader, writer := w.connect("reader"), w.connect("writer")
		d, l, s := writer.create("Documents"), writer.create("Lists"), writer.create("Streams")
		reader.subscribe(1, wish(d, "document", 0), wish(l, "list", 0), wish(s, "stream", nil))
		require.Equal(w, []string{"subscription_established 0 (1)", "subscription_established 0 (1)", "subscription_established 0 (1)"}, reader.heard(3))
		writer.http(200, "POST", "/v3/Documents/"+d, `{"data":{"a":1}}`)
		writer.http(201, "POST", "/v3/Lists/"+l+"/Items", `{"data":{"i":0}}`)
		writer.http(200, "POST", "/v3/Lists/"+l+"/Context", `{"data":{"c":0}}`)
		writer.http(201, "POST", "/v3/Streams/"+s+"/Messages", `{"data":{"m":0}}`)
		require.Equal(w, []string{
			`document_updated 1 {"a":1}`, `list_item_added 1  {"i":0}`, `list_context_updated 2`, `stream_message_published {"m":0}`,
		}, reader.heard(4))
		for kind, sid := range map[string]string{"Documents": d, "Lists": l, "Streams": s} {
			writer.http(204, "DELETE", "/v3/"+kind+"/"+sid, "data_sync")
		}
		require.ElementsMatch(w, []string{`document_removed 2 {"a":1}`, "list_removed 3", "stream_removed 0"}, reader.heard(3))
	})
}

func TestCorrelationIDIsReturnedUnchanged(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		c.http(200, "POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":8070450532247928831,"requests":[{"object_sid":"`+d+`","object_type":"document","last_event_id":0}]}`)
		require.Equal(w, []string{"subscription_established 0 (8070450532247928831)"}, c.heard(1))
	})
}

func TestSubscriptionsAreRefused(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		missing := "ET" + strings.Repeat("0", 32)
		c.subscribe(5, wish(missing, "document", 0), wish(d, "document", 0), wish(d, "map", 0), wish("nonsense", "document", 0), wish(d, "document", 99))
		require.ElementsMatch(w, []string{
			"subscription_failed 404 54100 (5)", "subscription_failed 404 20404 (5)", "subscription_failed 404 20404 (5)", "subscription_failed 410 54008 (5)",
		}, c.heard(4), "of two wishes for one object the later one counts")
		c.subscribe(6, wish(d, "document", "1"), wish(d, "document", -1), wish(d, "document", 1.5))
		require.Equal(w, []string{"subscription_failed 400 20001 (6)", "subscription_failed 400 20001 (6)", "subscription_failed 400 20001 (6)"}, c.heard(3))
		for _, body := range []string{`{`, `{"action":"establish"}`, `{"action":"dance","correlation_id":1,"requests":[]}`, `{"action":"establish","correlation_id":"x","requests":[]}`} {
			c.http(400, "POST", "/v4/Subscriptions", body)
		}
		c.silent()
	})
}

func TestCancelEndsTheEvents(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		reader, writer := w.connect("reader"), w.connect("writer")
		d := writer.create("Documents")
		reader.subscribe(1, wish(d, "document", 0))
		reader.subscription("cancel", 2, wish(d, "document", nil))
		require.Equal(w, []string{"subscription_established 0 (1)", "subscription_canceled (2)"}, reader.heard(2))
		writer.http(200, "POST", "/v3/Documents/"+d, `{"data":{}}`)
		reader.silent()
	})
}

func TestSubscribeWithoutEventIDStartsAtFirstFetch(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		reader, fresh, writer := w.connect("reader"), w.connect("fresh"), w.connect("writer")
		m := writer.create("Maps")
		writer.put(m, "old", "1")
		reader.http(200, "GET", "/v3/Maps/"+m+"/Items", "")
		writer.put(m, "new", "2")
		reader.subscribe(9, wish(m, "map", nil))
		fresh.subscribe(9, wish(m, "map", nil))
		require.Equal(w, []string{"map_item_added 2 new 2 (9)", "subscription_established 2 (9)"}, reader.heard(2))
		require.Equal(w, []string{"subscription_established 2 (9)"}, fresh.heard(1))
	})
}

func TestSubscriptionsOfSessionAreBounded(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		made := make([]map[string]any, objects.MaxSubscriptions+1)
		for i := range made {
			sid := objects.NewSID(objects.KindDocument, commandid.New())
			w.node.Must(&fsm.CreateObject{SID: sid, Data: objects.EmptyObject})
			made[i] = wish(sid.String(), "document", 0)
		}
		for at := 0; at < objects.MaxSubscriptions; at += 100 {
			c.subscribe(1, made[at:at+100]...)
			c.heard(100)
		}
		c.subscribe(2, made[objects.MaxSubscriptions], made[0])
		require.ElementsMatch(w, []string{"subscription_failed 429 54419 (2)", "subscription_established 0 (2)"}, c.heard(2))
	})
}

func TestPermissionTakenAwayIsToldAtOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		yes := true
		w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
		alice, bob := w.connect("alice"), w.connect("bob")
		m := alice.create("Maps")
		sid, _ := objects.ParseSID(m)
		grant := func(identity string, r objects.Rights) {
			w.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{SID: sid}, Identity: identity, Rights: r})
		}
		bob.subscribe(1, wish(m, "map", 0))
		require.Equal(w, []string{"subscription_failed 403 54007 (1)"}, bob.heard(1))
		grant("bob", objects.Read)
		bob.subscribe(2, wish(m, "map", 0))
		require.Equal(w, []string{"subscription_established 0 (2)"}, bob.heard(1))
		grant("bob", 0)
		alice.put(m, "k", `"secret"`)
		require.Equal(w, []string{"subscription_failed 403 54007 (null)"}, bob.heard(1))
		bob.silent()

		again := w.connect("bob") // who was away, and goes on from what he knew
		again.subscribe(3, wish(m, "map", 0))
		require.Equal(w, []string{"subscription_failed 403 54007 (3)"}, again.heard(1))
		again.silent()
	})
}

func TestEnablingAccessControlEndsForbiddenSubscriptions(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		d := c.create("Documents")
		c.subscribe(1, wish(d, "document", 0))
		c.heard(1)
		yes := true
		w.node.Must(&fsm.UpdateService{ACLEnabled: &yes})
		require.Equal(w, []string{"subscription_failed 403 54007 (null)"}, c.heard(1))
	})
}

func TestAnswerComesBeforeTheEcho(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m, s := c.create("Maps"), c.create("Streams")
		c.subscribe(1, wish(m, "map", 0), wish(s, "stream", nil))
		c.heard(2)
		for i := range 50 {
			c.put(m, "k", fmt.Sprint(i))
			require.Empty(w, c.notes, "nothing was heard before the answer")
			require.Contains(w, c.heard(1)[0], fmt.Sprintf(" %d k %d", i+1, i))
		}
		c.http(201, "POST", "/v3/Streams/"+s+"/Messages", `{"data":{}}`)
		c.http(200, "DELETE", "/v3/Maps/"+m+"/Items/k", "data_sync")
		c.silent()
		c.subscribe(2, wish(m, "map", 50))
		require.Equal(w, []string{"subscription_established 51 (2)"}, c.heard(1), "nor replayed")
		c.http(204, "DELETE", "/v3/Maps/"+m, "data_sync")
		require.Empty(w, c.notes)
		require.Equal(w, []string{"map_removed 52"}, c.heard(1))
	})
}

// TestOwnWriteIsNotReplayedBeforeItsAnswer: the subscription is asked for
// behind the write, without waiting.
func TestOwnWriteIsNotReplayedBeforeItsAnswer(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		for range 50 {
			m := c.create("Maps")
			write := c.begin(request("PUT", "/v3/Maps/"+m+"/Items/k", nil, nil), `{"data":1}`)
			establish := c.begin(request("POST", "/v4/Subscriptions", nil, nil),
				`{"action":"establish","correlation_id":1,"requests":[{"object_sid":"`+m+`","object_type":"map","last_event_id":0}]}`)
			c.await(write)
			require.Empty(w, c.notes)
			c.await(establish)
			require.Equal(w, []string{"map_item_added 1 k 1 (1)", "subscription_established 1 (1)"}, c.heard(2))
		}
	})
}

func TestDeafClientIsDisconnectedWithoutHarm(t *testing.T) {
	inWorld(t, func(c *realtime.Config) { c.QueueLength = 32 }, func(w *world) {
		writer := w.connect("writer")
		m, s := writer.create("Maps"), writer.create("Streams")
		stuck := w.dial()
		var readers []*client
		for range 20 {
			r := w.connect("reader")
			r.subscribe(1, wish(m, "map", 0), wish(s, "stream", nil))
			r.heard(2)
			readers = append(readers, r)
		}
		stuck.init(w.token("stuck", nil))
		stuck.subscribe(1, wish(m, "map", 0), wish(s, "stream", nil))
		stuck.heard(2)
		stuck.holdUp()
		for i := range 100 {
			writer.put(m, "k", fmt.Sprint(i))
			writer.http(201, "POST", "/v3/Streams/"+s+"/Messages", `{"data":{}}`)
			for _, r := range readers {
				require.Contains(w, r.heard(2)[0], fmt.Sprintf(" %d k %d", i+1, i))
			}
		}
		begin := time.Now()
		stuck.letGo()
		require.Zero(w, time.Since(begin))
		heard := stuck.until("map_item_updated 100 k 99")
		require.Less(w, len(heard), 100, "it lost its place and some messages")
	})
}

// A client that was not read to for a moment gets what came meanwhile in few
// notifications, if it reads those with several events.
func TestEventsThatWaitShareANotification(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		writer, old, late := w.connect("writer"), w.connect("old"), w.connect("late")
		old.form = 3
		m, stream := writer.create("Maps"), writer.create("Streams")
		for _, c := range []*client{old, late} {
			c.subscribe(1, wish(m, "map", 0), wish(stream, "stream", nil))
			c.heard(2)
			c.holdUp()
		}
		const each = 10
		var want []string
		for i := range each {
			writer.put(m, fmt.Sprint("k", i), "1")
			want = append(want, fmt.Sprintf("map_item_added %d k%d 1", i+1, i))
		}
		for i := range each {
			writer.http(201, "POST", "/v3/Streams/"+stream+"/Messages", fmt.Sprintf(`{"data":{"n":%d}}`, i))
			want = append(want, fmt.Sprintf(`stream_message_published {"n":%d}`, i))
		}
		for c, most := range map[*client]int{old: 2 * each, late: 6} {
			c.letGo()
			var heard []string
			notes := 0
			for ; len(heard) < 2*each; notes++ {
				heard = append(heard, brief(c.nextNote())...)
			}
			require.Equal(w, want, heard)
			require.LessOrEqual(w, notes, most)
			require.True(w, c != old || notes == most, "one event each")
			c.silent()
		}
	})
}

func TestSocketThatTakesNothingIsClosed(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		writer, stuck := w.connect("writer"), w.connect("stuck")
		m := writer.create("Maps")
		stuck.subscribe(1, wish(m, "map", 0))
		stuck.heard(1)
		stuck.holdUp()
		stop := stuck.staysAlive()
		writer.put(m, "k", "1")
		writer.put(m, "k", "2")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		stop()
		stuck.letGo()
		_, code := stuck.closes()
		require.Equal(w, -1, code)
	})
}

func TestReplayReportsOwnNewItemAsUpdated(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c, other := w.connect("alice"), w.connect("bob")
		m := c.create("Maps")
		c.put(m, "mine", "1")
		other.put(m, "theirs", "1")
		other.put(m, "mine", "2")
		other.put(m, "theirs", "2")
		c.subscribe(1, wish(m, "map", 0))
		require.Equal(w, []string{"map_item_updated 3 mine 2 (1)", "map_item_added 4 theirs 2 (1)", "subscription_established 4 (1)"}, c.heard(3))
	})
}
