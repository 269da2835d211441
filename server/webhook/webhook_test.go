package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver records what it is sent and answers with the status of reply.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	got   []received
	reply func(attempt int, form url.Values) int
}

type received struct {
	form   url.Values
	header http.Header
}

func newReceiver(t *testing.T, reply func(attempt int, form url.Values) int) *receiver {
	r := &receiver{reply: reply}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.ParseForm()
		r.mu.Lock()
		r.got = append(r.got, received{req.PostForm, req.Header})
		attempt := len(r.got)
		r.mu.Unlock()
		w.WriteHeader(r.reply(attempt, req.PostForm))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) received() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func ok(int, url.Values) int { return 200 }

// loopback is where the receivers of tests are.
func loopback() []netip.Prefix { return prefixes("127.0.0.0/8", "::1/128") }

// start runs a Sender on a node whose default service sends everything to url.
func start(t *testing.T, to string, config Config) *fsmtest.Node {
	n := fsmtest.New(nil)
	yes := true
	n.Must(&fsm.UpdateService{WebhookURL: &to, WebhooksFromREST: &yes})
	config.Node, config.Allow = n, loopback
	run(t, New(config))
	return n
}

func run(t *testing.T, s *Sender) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func createDocument(n *fsmtest.Node, i byte) objects.SID {
	sid := objects.NewSID(objects.KindDocument, [16]byte{i, 1})
	n.Must(&fsm.CreateObject{SID: sid, Data: []byte(`{}`)})
	return sid
}

func update(n *fsmtest.Node, sid objects.SID, v int) {
	n.Must(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: fmt.Appendf(nil, `{"v":%d}`, v)})
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, 5*time.Millisecond, what)
}

func TestDeliveriesAreSignedOrderedAndSettled(t *testing.T) {
	r := newReceiver(t, ok)
	n := start(t, r.URL+"/hook?a=b%20c", Config{})
	sid := createDocument(n, 1)
	for i := range 20 {
		update(n, sid, i)
	}
	eventually(t, "all delivered", func() bool { return n.View().WaitingDeliveries() == 0 })
	got := r.received()
	require.Len(t, got, 21)
	require.Equal(t, "document_created", got[0].form.Get("EventType"))
	tokens := map[string]bool{}
	for i, g := range got[1:] {
		require.Equal(t, fmt.Sprintf(`{"v":%d}`, i), g.form.Get("DocumentData"))
		var params []param
		for name := range g.form {
			params = append(params, param{name, g.form.Get(name)})
		}
		require.Equal(t, sign(fsmtest.AuthToken, r.URL+"/hook?a=b%20c", params), g.header.Get("X-Twilio-Signature"))
		tokens[g.header.Get("I-Twilio-Idempotency-Token")] = true
	}
	require.Len(t, tokens, 20, "each delivery has a token of its own")
}

// The expected value was computed by the official Node helper's
// getExpectedTwilioSignature.
const officialSignature = "RSOYDt4T1cUTdK1PDd93/VVr8B8="

func TestSignatureMatchesOfficialExample(t *testing.T) {
	params := []param{{"To", "+18005551212"}, {"CallSid", "CA1234567890ABCDE"}, {"Caller", "+14158675309"}, {"Digits", "1234"}, {"From", "+14158675309"}}
	require.Equal(t, officialSignature, sign("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", params))
	require.Equal(t, officialSignature, sign("12345", "https://mycompany.com/myapp.php?foo=1&bar=2#fragment", params))
}

func TestFailedDeliveryIsRetriedAndBlocksOnlyItsObject(t *testing.T) {
	var mu sync.Mutex
	failing := true
	slow := objects.NewSID(objects.KindDocument, [16]byte{1, 1}).String()
	r := newReceiver(t, func(_ int, form url.Values) int {
		mu.Lock()
		defer mu.Unlock()
		if failing && form.Get("DocumentSid") == slow {
			return 500
		}
		return 204
	})
	clock := newClock()
	n := start(t, r.URL, Config{Clock: clock.now})
	sid := createDocument(n, 1)
	update(n, sid, 1)
	for i := byte(2); i < 5; i++ {
		createDocument(n, i)
	}
	eventually(t, "others delivered, two of this one left", func() bool { return n.View().WaitingDeliveries() == 2 })
	eventually(t, "the failure is stored", func() bool {
		d, found := firstDelivery(n)
		return found && d.Attempts == 1
	})
	d, _ := firstDelivery(n)
	require.Equal(t, clock.now().Add(time.Second).UnixMilli(), d.NotBefore)
	mu.Lock()
	failing = false
	mu.Unlock()
	clock.advance(2 * time.Second)
	update(n, sid, 2) // wakes the sender, as the passing of time does by its timer
	eventually(t, "delivered in the end", func() bool { return n.View().WaitingDeliveries() == 0 })
	var events, tokens []string
	for _, g := range r.received() {
		if g.form.Get("DocumentSid") == slow {
			events = append(events, g.form.Get("EventType")+g.form.Get("DocumentData"))
			tokens = append(tokens, g.header.Get("I-Twilio-Idempotency-Token"))
		}
	}
	require.Equal(t, []string{"document_created{}", "document_created{}", `document_updated{"v":1}`, `document_updated{"v":2}`}, events)
	require.Equal(t, tokens[0], tokens[1])
}

func TestNextLeaderDeliversRest(t *testing.T) {
	r := newReceiver(t, ok)
	n := fsmtest.New(nil)
	to, yes := r.URL, true
	n.Must(&fsm.UpdateService{WebhookURL: &to, WebhooksFromREST: &yes})
	for i := byte(1); i < 4; i++ {
		createDocument(n, i)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	New(Config{Node: n}).Run(ended)
	require.Equal(t, 3, n.View().WaitingDeliveries())
	run(t, New(Config{Node: n, Allow: loopback}))
	eventually(t, "delivered by the next", func() bool { return n.View().WaitingDeliveries() == 0 })
	require.Len(t, r.received(), 3)
}

// Where a delivery goes is decided when it is sent: to where its service wants it
// by then, if it wants it at all.
func TestDeliveryUsesWebhookURLAtSendTime(t *testing.T) {
	old := newReceiver(t, func(int, url.Values) int { return 500 })
	current := newReceiver(t, ok)
	clock := newClock()
	n := start(t, old.URL, Config{Clock: clock.now})
	createDocument(n, 1)
	eventually(t, "a failure", func() bool {
		d, found := firstDelivery(n)
		return found && d.Attempts == 1
	})
	n.Must(&fsm.UpdateService{WebhookURL: &current.URL})
	clock.advance(backoff[0])
	createDocument(n, 2) // wakes the sender, whose timer knows the real clock only
	eventually(t, "delivered", func() bool { return n.View().WaitingDeliveries() == 0 })
	require.Len(t, current.received(), 2)
	require.Len(t, old.received(), 1)

	nowhere := ""
	n.Must(&fsm.UpdateService{WebhookURL: &old.URL})
	createDocument(n, 3)
	eventually(t, "another failure", func() bool { return len(old.received()) == 2 })
	n.Must(&fsm.UpdateService{WebhookURL: &nowhere})
	eventually(t, "dropped", func() bool { clock.advance(time.Minute); return n.View().WaitingDeliveries() == 0 })
	require.Len(t, old.received(), 2)
}

func TestDeliveryIsDroppedAfterADay(t *testing.T) {
	r := newReceiver(t, func(int, url.Values) int { return 500 })
	clock := newClock()
	n := start(t, r.URL, Config{Clock: clock.now})
	clock.advance(25 * time.Hour)
	createDocument(n, 1)
	eventually(t, "given up", func() bool { return n.View().WaitingDeliveries() == 0 && len(r.received()) == 1 })
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	r := newReceiver(t, func(attempt int, _ url.Values) int {
		if attempt == 1 {
			return 302
		}
		return 200
	})
	n := start(t, r.URL, Config{})
	createDocument(n, 1)
	eventually(t, "a failure", func() bool {
		d, found := firstDelivery(n)
		return found && d.Attempts == 1
	})
}

func TestReporterKeepsEndpointOrderAndDropsEarlierLife(t *testing.T) {
	n := fsmtest.New(nil)
	to, yes := "http://127.0.0.1:1/", true
	n.Must(&fsm.UpdateService{WebhookURL: &to, ReachabilityWebhooks: &yes})
	alice := fsm.Actor{Identity: "alice", Endpoint: "e", Token: true}
	n.Propose(t.Context(), &fsm.Command{ID: commandid.New(), Actor: fsm.Actor{Identity: "old", Endpoint: "x"}, Service: fsmtest.Service, Op: &fsm.ConnectEndpoint{Node: "n1"}})
	r := NewReporter(n, "n1", slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	for i := range 10 {
		session := fmt.Sprint("s", i)
		r.Connected(fsmtest.Service, alice, session)
		r.Disconnected(fsmtest.Service, alice, session)
	}
	r.Connected(fsmtest.Service, alice, "last")
	eventually(t, "all told", func() bool { return n.View().NewestDelivery() == 23 })
	var there []fsm.Endpoint
	n.View().Endpoints(func(e fsm.Endpoint) bool {
		there = append(there, e)
		return true
	})
	require.Len(t, there, 1)
	require.Equal(t, "alice", there[0].Identity)
}

// Where no webhook tells of connections, the store knows of those whose endpoints hold
// items, wherever they come back.
func TestReporterTellsOfHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := fsmtest.New(nil)
		n.Must(&fsm.CreateObject{SID: objects.NewSID(objects.KindMap, [16]byte{7}), UniqueName: "m"})
		alice := fsm.Actor{Identity: "alice", Endpoint: "e", Token: true}
		r := NewReporter(n, "n1", slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		until := func() int64 {
			synctest.Wait()
			s, _ := n.View().Service(fsm.Ref{SID: fsmtest.Service})
			h, there := n.View().Holder(s.Num, "alice", "e")
			require.True(t, there)
			return h.Until
		}
		r.Connected(fsmtest.Service, alice, "s1")
		r.Connected(fsmtest.Service, fsm.Actor{Identity: "bob", Endpoint: "e", Token: true}, "s2")
		synctest.Wait()
		_, err := n.Propose(ctx, &fsm.Command{ID: commandid.New(), Actor: alice, Service: fsmtest.Service, Op: &fsm.HoldItem{
			Write: fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{Name: "m"}, Item: fsm.ItemKey{Key: "k"}, Mode: fsm.PutItem, Data: []byte(`1`)},
			Node:  "n1", Session: "s1", Grace: 5000,
		}})
		require.NoError(t, err)
		require.Zero(t, until())
		r.Disconnected(fsmtest.Service, alice, "s1")
		require.NotZero(t, until())
		r.Connected(fsmtest.Service, alice, "s3")
		require.Zero(t, until())

		// This node was taken for lost, and a write came too late: both are set right
		// before anything lapses.
		n.Must(&fsm.DropEndpoints{Node: "n1"})
		require.NotZero(t, until())
		time.Sleep(reconcileInterval)
		require.Zero(t, until())
		_, err = n.Propose(ctx, &fsm.Command{ID: commandid.New(), Actor: alice, Service: fsmtest.Service, Op: &fsm.ConnectEndpoint{Node: "n1", Session: "s1"}})
		require.NoError(t, err)
		r.Disconnected(fsmtest.Service, alice, "s3")
		require.Zero(t, until(), "the store takes the late one for connected")
		time.Sleep(reconcileInterval)
		require.NotZero(t, until())
		require.Empty(t, n.View().NewestDelivery())
		var all int
		n.View().Endpoints(func(fsm.Endpoint) bool { all++; return true })
		require.Zero(t, all, "that of bob was never told")
	})
}

// What the store believes is set right: after a service began to care, after
// another node took this one for lost, and when a report was lost.
func TestReporterReconciles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := fsmtest.New(nil)
		r := NewReporter(n, "n1", slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		there := func() (all []string) {
			time.Sleep(reconcileInterval + time.Second)
			synctest.Wait()
			n.View().Endpoints(func(e fsm.Endpoint) bool {
				all = append(all, e.Session)
				return true
			})
			return all
		}
		alice := fsm.Actor{Identity: "alice", Endpoint: "e", Token: true}
		r.Connected(fsmtest.Service, alice, "s1")
		require.Empty(t, there(), "nobody cares")
		to, yes, no := "http://127.0.0.1:1/", true, false
		n.Must(&fsm.UpdateService{WebhookURL: &to, ReachabilityWebhooks: &yes})
		require.Equal(t, []string{"s1"}, there())
		n.Must(&fsm.DropEndpoints{Node: "n1"})
		require.Equal(t, []string{"s1"}, there(), "it was only paused")
		n.Must(&fsm.UpdateService{ReachabilityWebhooks: &no})
		require.Empty(t, there())
		r.Disconnected(fsmtest.Service, alice, "s1")
		n.Must(&fsm.UpdateService{ReachabilityWebhooks: &yes})
		require.Empty(t, there())
		n.Propose(ctx, &fsm.Command{ID: commandid.New(), Actor: alice, Service: fsmtest.Service, Op: &fsm.ConnectEndpoint{Node: "n1", Session: "stray"}})
		require.Empty(t, there(), "this node has no such session")
		require.Empty(t, r.sessions)

		var told []string
		n.View().Deliveries(0, func(d *fsm.Delivery) bool {
			told = append(told, endpointEvents[d.Fact.Type])
			return true
		})
		require.Equal(t, []string{
			"endpoint_connected", "endpoint_disconnected", "endpoint_connected", "endpoint_connected", "endpoint_disconnected",
		}, told)
		r.Connected(fsmtest.Service, alice, "s2")
		flushing, stop := context.WithTimeout(ctx, time.Minute)
		defer stop()
		r.Flush(flushing)
		require.NoError(t, flushing.Err())
		r.Flush(flushing)
	})
}

func TestReapEndpointsDropsThoseOfLostNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := fsmtest.New(nil)
		for _, node := range []string{"lost", "here"} {
			n.Propose(t.Context(), &fsm.Command{ID: commandid.New(), Actor: fsm.Actor{Identity: node, Endpoint: "e"}, Service: fsmtest.Service, Op: &fsm.ConnectEndpoint{Node: node}})
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			ReapEndpoints(ctx, n, func() []string { return []string{"here"} }, slog.New(slog.DiscardHandler))
		}()
		time.Sleep(11 * time.Second)
		require.Contains(t, nodesWithEndpoints(n.View()), "lost", "it may come back")
		time.Sleep(10 * time.Second)
		require.NotContains(t, nodesWithEndpoints(n.View()), "lost")
		require.Contains(t, nodesWithEndpoints(n.View()), "here")
		cancel()
		<-done
	})
}

func firstDelivery(n *fsmtest.Node) (d *fsm.Delivery, found bool) {
	n.View().Deliveries(0, func(x *fsm.Delivery) bool {
		d, found = x, true
		return false
	})
	return d, found
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}

// Twenty services whose receivers take a request and say nothing: what another
// service has to say is delivered at once.
func TestHangingReceiversDoNotDelayOthers(t *testing.T) {
	release := make(chan struct{})
	hung := newReceiver(t, func(int, url.Values) int {
		<-release
		return 200
	})
	t.Cleanup(func() { close(release) }) // before the receiver is closed
	r := newReceiver(t, ok)
	n := start(t, r.URL, Config{})
	createDocument(n, 1)
	eventually(t, "delivered", func() bool { return n.View().WaitingDeliveries() == 0 })
	const services, objectsEach = 20, 30
	for s := range services {
		service := objects.NewSID(objects.KindService, [16]byte{9, byte(s)})
		n.Must(&fsm.CreateService{SID: service, Settings: objects.ServiceSettings{WebhookURL: hung.URL + fmt.Sprint("/", s), WebhooksFromREST: true}})
		for i := range objectsEach {
			_, err := n.Propose(t.Context(), &fsm.Command{ID: commandid.New(), Service: service, Op: &fsm.CreateObject{
				SID: objects.NewSID(objects.KindDocument, [16]byte{8, byte(s), byte(i)}), Data: []byte(`{}`),
			}})
			require.NoError(t, err)
		}
	}
	eventually(t, "each has its one", func() bool { return len(hung.received()) == services })
	begin := time.Now()
	for i := byte(2); i < 12; i++ {
		createDocument(n, i)
	}
	eventually(t, "delivered all the same", func() bool { return n.View().WaitingDeliveries() == services*objectsEach })
	require.Less(t, time.Since(begin), 5*time.Second, "a time-out is three times as long")
	require.Len(t, hung.received(), services)
}
