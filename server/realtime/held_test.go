package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/realtime"
)

// heldNode is a node whose answers can be kept back, lost or refused.
type heldNode struct {
	*fsmtest.Node

	mu       sync.Mutex
	hold     chan struct{} // results wait until it is closed; nil: they don't
	lose     bool          // results are lost, the commands are not
	groups   []int         // numbers of commands that were proposed together
	noLeader bool
}

func (n *heldNode) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	r, err := n.Node.Propose(ctx, c)
	n.mu.Lock()
	hold, lose := n.hold, n.lose
	n.mu.Unlock()
	if lose {
		return nil, objects.ErrUnavailable
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", objects.ErrUnavailable, ctx.Err())
		}
	}
	return r, err
}

func (n *heldNode) ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error)) {
	n.set(func() { n.groups = append(n.groups, len(commands)) })
	for i, c := range commands {
		r, err := n.Propose(ctx, c)
		defer told(i, r, err) // the last one is the first to know
	}
}

func (n *heldNode) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.noLeader {
		return nil, fmt.Errorf("%w: %w", objects.ErrUnavailable, errors.New("no leader"))
	}
	return n.Node.Read(ctx, bucket)
}

func (n *heldNode) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// holdAnswers keeps back the results of writes until release is called.
func (n *heldNode) holdAnswers() (release func()) {
	hold := make(chan struct{})
	n.set(func() { n.hold = hold })
	return func() {
		n.set(func() { n.hold = nil })
		close(hold)
	}
}

// inHeldWorld is inWorld with a heldNode.
func inHeldWorld(t *testing.T, change func(*realtime.Config), test func(w *world, n *heldNode)) {
	var n *heldNode
	inWorld(t, func(c *realtime.Config) {
		n = &heldNode{Node: c.Node.(*fsmtest.Node)}
		c.Node, c.API = n, api.New(n)
		if change != nil {
			change(c)
		}
	}, func(w *world) { test(w, n) })
}

func TestEventsAfterOwnWriteWaitForItsAnswer(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c, other := w.connect("alice"), w.connect("bob")
		m := c.create("Maps")
		for _, each := range []*client{c, other} {
			each.subscribe(1, wish(m, "map", 0))
			each.heard(1)
		}
		release := n.holdAnswers()
		first := c.begin(request("PUT", "/v3/Maps/"+m+"/Items/mine", nil, nil), `{"data":1}`)
		require.Equal(w, []string{"map_item_added 1 mine 1"}, other.heard(1))
		other.begin(request("PUT", "/v3/Maps/"+m+"/Items/theirs", nil, nil), `{"data":2}`)
		c.silent()
		other.silent()
		release()
		c.answered(201, c.await(first))
		require.Equal(w, []string{"map_item_added 1 mine 1", "map_item_added 2 theirs 2"}, c.heard(2))
		c.silent()
	})
}

// Writes to one object that come while one is under way are proposed together behind
// it, and are answered in their order; a read between them waits.
func TestWritesToOneObjectGoTogether(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c, other := w.connect("alice"), w.connect("bob")
		m := c.create("Maps")
		for _, each := range []*client{c, other} {
			each.subscribe(1, wish(m, "map", 0))
			each.heard(1)
		}
		release := n.holdAnswers()
		put := func(i int) string {
			return c.begin(request("PUT", "/v3/Maps/"+m+"/Items/k", nil, nil), fmt.Sprintf(`{"data":%d}`, i))
		}
		var ids []string
		for i := range 6 {
			ids = append(ids, put(i))
		}
		read := c.begin(request("GET", "/v3/Maps/"+m+"/Items/k", nil, nil), "")
		for i := range 3 {
			ids = append(ids, put(6+i))
		}
		synctest.Wait()
		require.Equal(w, []string{"map_item_added 1 k 0"}, other.heard(1), "only the first is written")
		other.silent()
		c.silent()
		release()
		for i, id := range ids[:6] {
			require.EqualValues(w, i+1, c.answered([]int{201, 200}[min(i, 1)], c.await(id))["last_event_id"])
		}
		require.EqualValues(w, 6, c.answered(200, c.await(read))["last_event_id"], "what was sent before the read, and nothing else")
		for i, id := range ids[6:] {
			require.EqualValues(w, i+7, c.answered(200, c.await(id))["last_event_id"])
		}
		require.Equal(w, "map_item_updated 9 k 8", other.heard(8)[7])
		require.Equal(w, "map_item_updated 9 k 8", c.heard(9)[8])
		require.Equal(w, []int{5}, n.groups[:1])
	})
}

func TestRequestsForOtherObjectsDoNotWait(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c := w.connect("alice")
		slow, fast := c.create("Documents"), c.create("Documents")
		release := n.holdAnswers()
		id := c.begin(request("POST", "/v3/Documents/"+slow, nil, nil), `{"data":{}}`)
		c.http(200, "GET", "/v3/Documents/"+fast, "")
		behind := c.begin(request("GET", "/v3/Documents/"+slow, nil, nil), "")
		synctest.Wait()
		require.Empty(w, c.messages, "a read of the same object follows the write")
		release()
		c.answered(200, c.await(id))
		c.answered(200, c.await(behind))
	})
}

func TestWriteWhoseAnswerIsLostIsHeard(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c := w.connect("alice")
		m := c.create("Maps")
		c.put(m, "k", "1")
		c.subscribe(1, wish(m, "map", 1))
		c.heard(1)
		n.set(func() { n.lose = true })
		c.http(503, "DELETE", "/v3/Maps/"+m+"/Items/k", "data_sync")
		require.Equal(w, []string{"map_item_removed 2 k 1"}, c.heard(1), "the answer told nothing, so the echo does")
	})
}

func TestWithoutALeaderNobodyIsTurnedAway(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c := w.connect("alice")
		d := c.create("Documents")
		n.set(func() { n.noLeader = true })
		require.EqualValues(w, 20503, c.http(503, "GET", "/v3/Documents/"+d, "")["code"])
		c.http(503, "POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":1,"requests":[{"object_sid":"`+d+`","object_type":"document"}]}`)
		c.silent()
		// A key that this node does not know yet may be a new one.
		// Denied, a client would stay away for good.
		unknown := w.token("bob", func(s *auth.TokenSpec) { s.KeySID = "SK" + strings.Repeat("9", 32) })
		require.Equal(w, 503, c.ask(map[string]any{"method": "update", "token": unknown}, "").Status.Code)
		require.Equal(w, 401, c.ask(map[string]any{"method": "update", "token": "no token at all"}, "").Status.Code)
		require.Equal(w, 503, w.dial().init(unknown).Status.Code)
		require.Equal(w, 200, w.dial().init(w.token("bob", nil)).Status.Code)
		n.set(func() { n.noLeader = false })
		require.Equal(w, 401, w.dial().init(unknown).Status.Code)
		c.subscribe(2, wish(d, "document", 0))
		require.Equal(w, []string{"subscription_established 0 (2)"}, c.heard(1))
	})
}

func TestRequestsAreReadNoFasterThanAnswersAreTaken(t *testing.T) {
	const slots = 4
	limits := func(c *realtime.Config) { c.QueueBytes, c.RequestsPerSession = 20_000, slots }
	inHeldWorld(t, limits, func(w *world, n *heldNode) {
		c := w.connect("alice")
		d := c.http(201, "POST", "/v3/Documents", `{"data":"`+strings.Repeat("x", 15_000)+`"}`)["sid"].(string)
		c.holdUp()
		var sending sync.WaitGroup
		sent := 0
		const requests = 50
		sending.Go(func() {
			for range requests {
				c.begin(request("GET", "/v3/Documents/"+d, nil, nil), "")
				sent++
			}
		})
		synctest.Wait()
		require.Less(w, sent, 4*slots, "the rest waits at the client")
		c.letGo()
		for range requests {
			m, _ := c.next()
			c.answered(200, m)
		}
		sending.Wait()
	})
}

func TestDrainAnswersWhatWasAsked(t *testing.T) {
	// With one slot, the late request finds the reader waiting for it.
	inHeldWorld(t, func(c *realtime.Config) { c.RequestsPerSession = 1 }, func(w *world, n *heldNode) {
		c := w.connect("alice")
		d := c.create("Documents")
		release := n.holdAnswers()
		asked := c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":{}}`)
		synctest.Wait()
		var draining sync.WaitGroup
		draining.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			w.endpoint.Drain(ctx)
			require.NoError(w, ctx.Err(), "everybody is gone before")
		})
		time.Sleep(time.Second - 100*time.Millisecond) // no pause of the client is waited for any more
		late := c.begin(request("GET", "/v3/Documents/"+d, nil, nil), "")
		synctest.Wait()
		release()
		c.answered(200, c.await(asked))
		last, code := c.closes()
		require.NotEqual(w, late, last.ID, "what comes later is not served: the client may ask another node")
		require.Equal(w, websocket.CloseServiceRestart, code)
		draining.Wait()
	})
}

// The client's next request, made when it has the answer to the last one, does not
// cross the end of the connection.
func TestDrainWaitsForPauseOfClient(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c := w.connect("alice")
		d := c.create("Documents")
		release := n.holdAnswers()
		first := c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":{}}`)
		var draining sync.WaitGroup
		draining.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			w.endpoint.Drain(ctx)
		})
		synctest.Wait()
		release()
		c.answered(200, c.await(first))
		for range 10 {
			time.Sleep(10 * time.Millisecond)
			c.http(200, "POST", "/v3/Documents/"+d, `{"data":{}}`)
		}
		_, code := c.closes()
		require.Equal(w, websocket.CloseServiceRestart, code)
		draining.Wait()
	})
}

func TestDrainWaitsNoLongerThanItMay(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c, idle := w.connect("alice"), w.connect("bob")
		d := c.create("Documents")
		release := n.holdAnswers()
		defer release()
		c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":{}}`)
		synctest.Wait()
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.endpoint.Drain(ctx)
		require.Equal(w, time.Second, time.Since(begin))
		_, code := idle.closes()
		require.Equal(w, websocket.CloseServiceRestart, code)
	})
}

func TestClosingWithWorkUnderWay(t *testing.T) {
	inHeldWorld(t, nil, func(w *world, n *heldNode) {
		c := w.connect("alice")
		d := c.create("Documents")
		release := n.holdAnswers()
		defer release()
		c.begin(request("POST", "/v3/Documents/"+d, nil, nil), `{"data":{}}`)
		synctest.Wait()
		require.NoError(w, w.endpoint.Close())
		c.closes()
	})
}

func TestExpiryIsARemoval(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m := c.create("Maps")
		c.http(201, "PUT", "/v3/Maps/"+m+"/Items/k", `{"data":1,"ttl":10}`)
		c.subscribe(1, wish(m, "map", 1))
		c.heard(1)
		c.http(200, "POST", "/v3/Maps/"+m, `{"ttl":20}`)
		time.Sleep(11 * time.Second)
		w.node.Expire()
		require.Equal(w, []string{"map_item_removed 2 k 1"}, c.heard(1))
		time.Sleep(10 * time.Second)
		w.node.Expire()
		require.Equal(w, []string{"map_removed 3"}, c.heard(1))
		c.http(404, "GET", "/v3/Maps/"+m, "")
	})
}

func TestRepeatedEstablishStartsAfresh(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		c := w.connect("alice")
		m := c.create("Maps")
		c.put(m, "a", "1")
		c.subscribe(1, wish(m, "map", 1))
		require.Equal(w, []string{"subscription_established 1 (1)"}, c.heard(1))
		c.subscribe(2, wish(m, "map", 0))
		require.Equal(w, []string{"map_item_added 1 a 1 (2)", "subscription_established 1 (2)"}, c.heard(2))
		w.connect("bob").put(m, "b", "2")
		require.Equal(w, []string{"map_item_added 2 b 2"}, c.heard(1), "once")
		c.silent()
	})
}

func TestSessionEndsWhenKeyIsGoneAfterRestore(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		without := snapshot(w)
		key := objects.NewSID(objects.KindKey, commandid.New())
		w.node.Must(&fsm.CreateKey{SID: key, Secret: fsmtest.KeySecret})
		c, stays := w.dial(), w.connect("bob")
		c.init(w.token("alice", func(s *auth.TokenSpec) { s.KeySID = key.String() }))
		require.NoError(w, w.node.FSM().Restore(without))
		last, _ := c.closes()
		require.Equal(w, status{Code: 401, Status: "UNAUTHORIZED"}, last.Status)
		stays.http(201, "POST", "/v3/Documents", `{}`)
	})
}

// Where the writer gives up on a client, nothing of its session stays, whatever
// its other goroutines are waiting for.
func TestDeafClientIsReleasedCompletely(t *testing.T) {
	metrics := prometheus.NewRegistry()
	inWorld(t, func(c *realtime.Config) { c.Metrics = metrics }, func(w *world) {
		stuck := w.connect("alice")
		m := stuck.create("Maps")
		for i := range 100 {
			stuck.put(m, fmt.Sprint(i), `"`+strings.Repeat("x", 16_000)+`"`)
		}
		stuck.holdUp()
		defer stuck.letGo()
		var flooding sync.WaitGroup
		flooding.Go(func() {
			for i := range 200 {
				h := request("GET", "/v3/Maps/"+m+"/Items", nil, map[string]any{"PageSize": "100"})
				h["id"] = fmt.Sprint("flood", i)
				if stuck.write(encode(h, "")) != nil {
					return
				}
			}
		})
		time.Sleep(time.Minute)
		flooding.Wait()
		require.EqualValues(w, 1, metric(w, metrics, "lockstep_sessions_slow_closed_total"))
		require.Zero(w, metric(w, metrics, "lockstep_sessions"))
	})
}

// A client ignores events that are older than what an answer told it.
func TestNoAnswerOvertakesAnEarlierEvent(t *testing.T) {
	asks := map[string]func(c *client, m string) (id string){
		"write": func(c *client, m string) string {
			return c.begin(request("PUT", "/v3/Maps/"+m+"/Items/k", nil, nil), `{"data":"mine"}`)
		},
		"write of a TTL": func(c *client, m string) string {
			return c.begin(request("POST", "/v3/Maps/"+m+"/Items/k", nil, nil), `{"ttl":100}`)
		},
		"read of an item": func(c *client, m string) string {
			return c.begin(request("GET", "/v3/Maps/"+m+"/Items/k", nil, nil), "")
		},
		"query": func(c *client, m string) string {
			return c.begin(request("GET", "/v3/Maps/"+m+"/Items", nil, nil), "")
		},
		"open": func(c *client, m string) string {
			return c.begin(request("GET", "/v3/Maps/"+m, nil, map[string]any{"Include": "items"}), "")
		},
	}
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(c *realtime.Config) { c.QueueBytes = 20_000 }, func(w *world) {
				c, other := w.connect("alice"), w.connect("bob")
				m := c.create("Maps")
				c.subscribe(1, wish(m, "map", 0))
				c.heard(1)
				c.holdUp()
				// One event is being written, one waits, and the subscription is behind.
				large := `"` + strings.Repeat("x", 15_000) + `"`
				for range 4 {
					other.put(m, "k", large)
				}
				id := ask(c, m)
				synctest.Wait()
				c.letGo()
				c.answered(200, c.await(id))
				require.NotEmpty(w, c.notes)
				before := c.heard(len(c.notes))
				if name == "write" {
					require.Equal(w, []string{`map_item_updated 5 k "mine"`}, c.heard(1))
				} else {
					require.Equal(w, "map_item_updated 4 k "+large, before[len(before)-1])
				}
				c.silent()
			})
		})
	}
}
