package migrate

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/server"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/limits"
	"lockstep/server/nodedir"
	"lockstep/server/transfer"
)

func TestMain(m *testing.M) {
	// memberlist's Shutdown does not wait for a probe under way, which takes a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

var account = auth.Account{SID: "AC" + strings.Repeat("a1", 16), AuthToken: "token1234567890abcdefghi"}

// cluster is one node in this process, to which records are brought.
type cluster struct {
	t   *testing.T
	url string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "node")
	s, err := server.New(server.Config{
		DataDir: dir, Bootstrap: true, Account: account, HTTPAddr: "127.0.0.1:0",
		RateLimits: limits.Default(), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
		httpClient.CloseIdleConnections()
	})
	c := &cluster{t: t}
	require.Eventually(t, func() bool {
		record, err := nodedir.Load(dir)
		if err != nil || record.HTTPURL == "" {
			return false
		}
		c.url = record.HTTPURL
		res, err := http.Get(c.url + "/readyz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	}, 20*time.Second, 10*time.Millisecond, "the node is ready")
	return c
}

var httpClient = &http.Client{Timeout: 10 * time.Second}

func (c *cluster) rest() *client.Client {
	return &client.Client{URLs: []string{c.url}, User: account.SID, Password: account.AuthToken, HTTP: httpClient}
}

func (c *cluster) target(report *Report) *Target {
	return &Target{
		Operator: &admin.Client{URLs: []string{c.url}, AccountSID: account.SID, AuthToken: account.AuthToken, HTTP: httpClient},
		REST:     c.rest, Report: report, Patience: 10 * time.Second,
	}
}

// service returns everything in a service as lines, as an export has it.
func (c *cluster) service(sid string) (lines []string) {
	c.t.Helper()
	var b strings.Builder
	require.NoError(c.t, ToFile(c.t.Context(), &b, &Source{Client: c.rest()}, Filter{sid}, &Report{}))
	all := strings.Split(strings.TrimSpace(b.String()), "\n")
	return all[1 : len(all)-1]
}

// twilio is a server that says what the specification says, and no more: of a service
// with documents, lists, maps and streams, whose items and permissions are kept as the
// API shows them.
type twilio struct {
	t   *testing.T
	url string

	mu       sync.Mutex
	services []resource
	objects  map[string][]resource // by service and collection: "IS…/Maps"
	parts    map[string][]resource // by object: "MP…/Items"
	pageSize int
	next     uint64 // number of what is made next
	requests map[string]int

	// before, if it is set, sees each request first, without the lock, and reports
	// whether it has answered it.
	before func(w http.ResponseWriter, r *http.Request) bool
}

type resource map[string]any

const theirAccount, theirToken = "ACffffffffffffffffffffffffffffffff", "theirtoken"

const (
	theirDefault = "IS000000000000000000000000000000d0"
	theirShop    = "IS000000000000000000000000000000d1"
)

func newTwilio(t *testing.T) *twilio {
	t.Helper()
	tw := &twilio{t: t, objects: map[string][]resource{}, parts: map[string][]resource{}, pageSize: 100, requests: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(tw.serve))
	t.Cleanup(s.Close)
	tw.url = s.URL
	tw.addService(theirDefault, "default")
	tw.addService(theirShop, "")
	return tw
}

func (tw *twilio) source() *Source {
	return &Source{Name: tw.url, Patience: 10 * time.Second, Client: &client.Client{URLs: []string{tw.url}, User: theirAccount, Password: theirToken, Patience: time.Second, HTTP: httpClient}}
}

func (tw *twilio) copier(c *cluster, state string) *Copier {
	tw.t.Helper()
	s, err := OpenState(state, tw.url, theirAccount, "cluster")
	require.NoError(tw.t, err)
	tw.t.Cleanup(func() { require.NoError(tw.t, s.Close()) })
	return &Copier{From: tw.source(), To: c.target(&Report{}), State: s}
}

func (tw *twilio) dates(r resource) resource {
	tw.next++
	r["date_created"] = "2015-07-30T20:00:00Z"
	r["date_updated"] = time.Unix(1_500_000_000+int64(tw.next), 0).UTC().Format(time.RFC3339)
	return r
}

func (tw *twilio) addService(sid, name string) {
	s := resource{"sid": sid, "account_sid": theirAccount, "unique_name": nil, "friendly_name": "shop", "webhook_url": nil, "acl_enabled": true, "webhooks_from_rest_enabled": false, "reachability_webhooks_enabled": false, "reachability_debouncing_enabled": false, "reachability_debouncing_window": 5000}
	if name != "" {
		s["unique_name"] = name
	}
	tw.services = append(tw.services, tw.dates(s))
}

// add makes an object with a revision, and returns its SID.
func (tw *twilio) add(service, collection, name string, revision int) string {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	prefix := map[string]string{"Documents": "ET", "Lists": "ES", "Maps": "MP", "Streams": "TO"}[collection]
	o := tw.dates(resource{"account_sid": theirAccount, "service_sid": service, "unique_name": nil, "date_expires": nil, "created_by": "alice", "url": "https://sync.twilio.com/v1/…", "links": resource{}})
	o["sid"] = fmt.Sprintf("%s%032x", prefix, tw.next)
	if name != "" {
		o["unique_name"] = name
	}
	if collection != "Streams" {
		o["revision"] = strconv.FormatInt(int64(revision), 16)
	}
	if collection == "Documents" {
		o["data"] = resource{"name": name}
	}
	tw.objects[service+"/"+collection] = append(tw.objects[service+"/"+collection], o)
	return o["sid"].(string)
}

// put adds or replaces an item, under a key or index, as a writer would.
func (tw *twilio) put(sid string, at, data any) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	item := tw.dates(resource{"account_sid": theirAccount, "revision": "0", "data": data, "date_expires": nil, "created_by": "bob", "url": ""})
	member := "key"
	if _, isIndex := at.(int); isIndex {
		member = "index"
	}
	item[member] = at
	tw.touch(sid, func(o resource) {
		item["service_sid"] = o["service_sid"]
		item[map[string]string{"index": "list_sid", "key": "map_sid"}[member]] = sid
	})
	all := tw.parts[sid+"/Items"]
	i, there := slices.BinarySearchFunc(all, at, func(r resource, at any) int { return compareAny(r[member], at) })
	if there {
		all[i] = item
	} else {
		tw.parts[sid+"/Items"] = slices.Insert(all, i, item)
	}
}

func compareAny(a, b any) int {
	if n, isIndex := a.(int); isIndex {
		return cmp.Compare(n, b.(int))
	}
	return strings.Compare(a.(string), b.(string))
}

func (tw *twilio) removeItem(sid string, at any) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.touch(sid, func(resource) {})
	tw.parts[sid+"/Items"] = slices.DeleteFunc(tw.parts[sid+"/Items"], func(r resource) bool { return r["key"] == at || r["index"] == at })
}

func (tw *twilio) permit(sid, identity string, read bool) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	p := resource{"identity": identity, "read": read, "write": false, "manage": false}
	tw.each(func(o resource) {
		if o["sid"] == sid {
			p["service_sid"] = o["service_sid"]
		}
	})
	p[map[string]string{"ET": "document_sid", "ES": "list_sid", "MP": "map_sid"}[sid[:2]]] = sid
	name := sid + "/Permissions"
	tw.parts[name] = append(slices.DeleteFunc(tw.parts[name], func(r resource) bool { return r["identity"] == identity }), p)
}

func (tw *twilio) forbid(sid, identity string) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.parts[sid+"/Permissions"] = slices.DeleteFunc(tw.parts[sid+"/Permissions"], func(r resource) bool { return r["identity"] == identity })
}

func (tw *twilio) remove(sid string) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	for name, all := range tw.objects {
		tw.objects[name] = slices.DeleteFunc(all, func(o resource) bool { return o["sid"] == sid })
	}
}

// removeService takes a service away, with all that is in it.
func (tw *twilio) removeService(sid string) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.services = slices.DeleteFunc(tw.services, func(s resource) bool { return s["sid"] == sid })
	maps.DeleteFunc(tw.objects, func(name string, _ []resource) bool { return strings.HasPrefix(name, sid) })
}

func (tw *twilio) set(sid string, data any) {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.touch(sid, func(o resource) { o["data"] = data })
}

// touch gives an object its next revision.
func (tw *twilio) touch(sid string, change func(resource)) {
	tw.each(func(o resource) {
		if o["sid"] == sid {
			n, err := strconv.ParseInt(o["revision"].(string), 16, 64)
			require.NoError(tw.t, err)
			o["revision"] = strconv.FormatInt(n+1, 16)
			change(tw.dates(o))
		}
	})
}

func (tw *twilio) each(visit func(resource)) {
	for _, all := range tw.objects {
		for _, o := range all {
			visit(o)
		}
	}
}

func (tw *twilio) serve(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != theirAccount || password != theirToken {
		refuse(w, 401, 20003)
		return
	}
	tw.mu.Lock()
	tw.requests[r.URL.Path]++
	before := tw.before
	tw.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	tw.mu.Lock()
	defer tw.mu.Unlock()
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/v1/"), "/")
	if len(segments) == 1 {
		tw.page(w, r, "services", tw.services)
		return
	}
	s := slices.IndexFunc(tw.services, func(s resource) bool { return s["sid"] == segments[1] })
	switch {
	case s < 0:
		refuse(w, 404, 20404)
	case len(segments) == 2:
		if r.Method == http.MethodPost {
			tw.services[s]["webhook_url"], tw.services[s]["webhooks_from_rest_enabled"] = r.PostFormValue("WebhookUrl"), r.PostFormValue("WebhooksFromRestEnabled") == "true"
		}
		answer(w, tw.services[s])
	case len(segments) == 3:
		tw.page(w, r, strings.ToLower(segments[2]), tw.objects[segments[1]+"/"+segments[2]])
	default:
		i := slices.IndexFunc(tw.objects[segments[1]+"/"+segments[2]], func(o resource) bool { return o["sid"] == segments[3] })
		switch {
		case i < 0:
			refuse(w, 404, 20404)
		case len(segments) == 4:
			answer(w, tw.objects[segments[1]+"/"+segments[2]][i])
		default:
			tw.page(w, r, strings.ToLower(segments[4]), tw.parts[segments[3]+"/"+segments[4]])
		}
	}
}

func (tw *twilio) page(w http.ResponseWriter, r *http.Request, key string, all []resource) {
	size, err := strconv.Atoi(cmp.Or(r.URL.Query().Get("PageSize"), "50"))
	require.NoError(tw.t, err)
	size = min(size, tw.pageSize)
	first, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Query().Get("PageToken"), "PT"))
	first = min(first, len(all))
	last := min(first+size, len(all))
	meta := resource{"key": key, "page": first / size, "page_size": size, "url": tw.url + r.URL.Path, "next_page_url": nil, "previous_page_url": nil}
	if last < len(all) {
		// As behind a proxy: under a name that this client must not be led to.
		meta["next_page_url"] = "https://elsewhere.invalid" + r.URL.EscapedPath() + "?" + url.Values{"PageSize": {strconv.Itoa(size)}, "Page": {"1"}, "PageToken": {fmt.Sprintf("PT%d", last)}}.Encode()
	}
	entries := append([]resource{}, all[first:last]...)
	answer(w, resource{key: entries, "meta": meta})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status, code int) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(resource{"code": code, "status": status, "message": "no", "more_info": ""})
}

func record(t *testing.T, line string) *transfer.Record {
	t.Helper()
	rec := new(transfer.Record)
	require.NoError(t, json.Unmarshal([]byte(line), rec))
	return rec
}

func created(service, collection string) client.Request {
	return client.Request{Method: http.MethodPost, Path: client.Path("Services", service, collection)}
}

func written(service, list string) client.Request {
	return client.Request{Method: http.MethodPost, Path: client.Path("Services", service, "Lists", list, "Items"), Form: url.Values{"Data": {"1"}}}
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func post(t *testing.T, to, form string) {
	t.Helper()
	res, err := httpClient.Post(to, "application/x-www-form-urlencoded", strings.NewReader(form))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusNoContent, res.StatusCode)
}
