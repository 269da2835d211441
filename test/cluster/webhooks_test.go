package cluster

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// receiver is an application's server that hears of changes. It refuses every
// fifth request, as servers do that are restarted.
type receiver struct {
	url   string
	token string // the account's, which signs

	mu       sync.Mutex
	requests int
	events   []url.Values // accepted, in the order of arrival
	faults   []string
}

func startReceiver(t *testing.T, token string) *receiver {
	r := &receiver{token: token}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	r.url = s.URL + "/hook?from=sync"
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	form, err := url.ParseQuery(string(body))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests++; r.requests%5 == 0 {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if err != nil || req.Header.Get("X-Twilio-Signature") != r.signature(form) || req.Header.Get("I-Twilio-Idempotency-Token") == "" {
		r.faults = append(r.faults, fmt.Sprint(req.Header, string(body)))
	}
	r.events = append(r.events, form)
}

// signature is what helper libraries expect of a form that was sent to the URL.
func (r *receiver) signature(form url.Values) string {
	mac := hmac.New(sha1.New, []byte(r.token))
	io.WriteString(mac, r.url)
	for _, name := range slices.Sorted(maps.Keys(form)) {
		io.WriteString(mac, name+form.Get(name))
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// of returns the events of one object, or of one identity's endpoints.
func (r *receiver) of(name, value string) (events []url.Values) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Get(name) == value {
			events = append(events, e)
		}
	}
	return events
}

// Webhooks of every change arrive, signed and in order for each object, though
// the node that sends them dies and the receiver fails now and then.
func TestWebhooksSurviveLeaderDeath(t *testing.T) {
	t.Parallel()
	c := harness.Start(t, harness.Config{})
	hook := startReceiver(t, c.Account.AuthToken)
	ctx := t.Context()
	configure, err := c.Nodes[0].REST().Post(ctx, "", harness.Form("WebhookUrl", hook.url, "WebhooksFromRestEnabled", "true"))
	require.NoError(t, err, "%s", configure.Body)

	const documents, updates = 4, 30
	leader := c.Leader()
	var survivors []*harness.Node
	for _, n := range c.Nodes {
		if n != leader {
			survivors = append(survivors, n)
		}
	}
	var writing sync.WaitGroup
	for d := range documents {
		rest := survivors[d%len(survivors)].REST()
		writing.Go(func() {
			name := fmt.Sprint("d", d)
			send := func(path string, pairs ...string) {
				// A key makes a repetition the same write.
				key := fmt.Sprint(name, path, pairs)
				harness.Until(t, "the write is acknowledged", func() error {
					_, err := rest.Post(ctx, path, harness.Form(pairs...), "Idempotency-Key", key)
					return err
				})
			}
			send("/Documents", "UniqueName", name)
			for i := range updates {
				send("/Documents/"+name, "Data", strconv.Itoa(i))
			}
		})
	}
	leader.Kill9()
	writing.Wait()
	for d := range documents {
		name := fmt.Sprint("d", d)
		var told []url.Values
		harness.Until(t, "everything of "+name+" was told", func() error {
			told = hook.of("DocumentUniqueName", name)
			if n := len(told); n == 0 || told[n-1].Get("DocumentRevision") != strconv.FormatInt(updates, 16) {
				return fmt.Errorf("%d events", n)
			}
			return nil
		})
		require.Equal(t, "document_created", told[0].Get("EventType"))
		next := int64(0)
		for _, e := range told {
			revision, err := strconv.ParseInt(e.Get("DocumentRevision"), 16, 64)
			require.NoError(t, err)
			require.LessOrEqual(t, revision, next, "%s: none is left out, and none comes early", name)
			next = max(next, revision+1)
			require.Equal(t, "system", e.Get("Identity"))
			if revision > 0 {
				require.Equal(t, strconv.FormatInt(revision-1, 10), e.Get("DocumentData"))
			}
		}
	}
	require.Empty(t, hook.faults)
}

// Clients that connect and go are told of, also those of a node that died.
func TestClientsOfDeadNodeBecomeUnreachable(t *testing.T) {
	t.Parallel() // it mostly waits
	c := harness.Start(t, harness.Config{})
	hook := startReceiver(t, c.Account.AuthToken)
	ctx := t.Context()
	_, err := c.Nodes[0].REST().Post(ctx, "", harness.Form("WebhookUrl", hook.url, "ReachabilityWebhooksEnabled", "true"))
	require.NoError(t, err)
	follower := c.Follower()
	clients := map[string]*harness.Realtime{}
	for i, n := range append([]*harness.Node{follower}, c.Nodes...) {
		identity := fmt.Sprint("user", i)
		// The node hears of the service's setting a moment after the others.
		n.UntilReady()
		r, err := harness.Connect(ctx, n.URL, c.Token(identity))
		require.NoError(t, err)
		defer r.Close()
		clients[identity] = r
		until(t, hook, identity, "endpoint_connected")
	}
	created, err := clients["user1"].Do("POST", "/v3/Documents", map[string]any{"unique_name": "by a client", "data": map[string]any{}})
	require.NoError(t, err)
	require.Equal(t, 201, created.Status)
	harness.Until(t, "a client's change is told", func() error {
		for _, e := range hook.of("DocumentUniqueName", "by a client") {
			if e.Get("Identity") == "user1" && e.Get("EndpointId") != "" {
				return nil
			}
		}
		return fmt.Errorf("not yet")
	})
	follower.Kill9()
	until(t, hook, "user0", "endpoint_disconnected")
	require.Empty(t, hook.faults)
}

// until waits for an endpoint's last event to be this one.
func until(t *testing.T, hook *receiver, identity, event string) {
	t.Helper()
	harness.Until(t, identity+": "+event, func() error {
		told := hook.of("Identity", identity)
		if n := len(told); n == 0 || told[n-1].Get("EventType") != event || told[n-1].Get("EndpointId") == "" {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
}
