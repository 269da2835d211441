package console_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/console"
	"lockstep/server/limits"
	"lockstep/server/webhook"
)

// cluster is a store with consoles of several nodes.
type cluster struct {
	*fsmtest.Node
	consoles map[string]*console.Console
	now      time.Time
	mu       sync.Mutex

	refusals []limits.Refusal // of n1, which leads
	hurried  []uint64
	backups  console.Backups // of n2
	relayed  []*http.Request // what arrived at the handlers behind
}

var (
	account = objects.NewSID(objects.KindAccount, [16]byte{1}).String()
	service = objects.NewSID(objects.KindService, [16]byte{2})
)

const authToken = "abcdefghijklmnopqrstuvwxyz012345"

// newCluster makes three nodes and an account with a service.
func newCluster(t *testing.T) *cluster {
	c := &cluster{Node: fsmtest.New(nil), consoles: map[string]*console.Console{}, now: time.Now()}
	for _, id := range []string{"n1", "n2", "n3"} {
		x := console.New(console.Config{
			Node: node{c, id}, Keyring: keyring{c.View}, Clients: c.behind("clients"), Operator: c.behind("operator"),
			Writes: new(console.Meter), Reads: new(console.Meter),
			Refused: func(context.Context, string) bool { return true }, Audit: audit.Log{},
			Clock: c.clock, Logger: slog.New(slog.DiscardHandler), Version: "test",
		})
		t.Cleanup(x.Close)
		c.consoles[id] = x
	}
	return c
}

func (c *cluster) clock() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *cluster) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// behind is a handler that stands for REST or the operators' API.
func (c *cluster) behind(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.relayed = append(c.relayed, r)
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("ETag", "7")
		io.WriteString(w, name)
	})
}

var nextKey byte

// key makes an API key, and returns what it logs in with.
func (c *cluster) key(t *testing.T, scope objects.KeyScope) (sid objects.SID, login map[string]string) {
	nextKey++
	sid = objects.NewSID(objects.KindKey, [16]byte{nextKey})
	secret := auth.NewSecret()
	require.Nil(t, c.Must(&fsm.CreateKey{SID: sid, Secret: secret, FriendlyName: "test", Scope: scope}).Err)
	return sid, map[string]string{"Key": sid.String(), "Secret": secret}
}

// node is console.Node.
type node struct {
	*cluster
	id string
}

func (n node) ID() string      { return n.id }
func (n node) Feed() *fsm.Feed { return n.FSM().Feed() }

func sealer() cipher.AEAD {
	block, _ := aes.NewCipher(make([]byte, 32))
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return aead
}

func (n node) Seal(plain []byte) ([]byte, error)    { return sealer().Seal(nil, nil, plain, nil), nil }
func (n node) Unseal(sealed []byte) ([]byte, error) { return sealer().Open(nil, nil, sealed, nil) }

func (n node) Status(context.Context) (admin.Status, error) {
	return admin.Status{ClusterID: "c", Nodes: []admin.NodeStatus{
		{ID: "n1", Role: admin.RoleLeader, HTTP: "http://10.0.0.1:8080", Raft: "10.0.0.1:7000", Voter: true},
		{ID: "n2", Role: admin.RoleFollower, Voter: true}, {ID: "n3", Role: admin.RoleFollower, Voter: true},
	}}, nil
}

func (n node) Ask(ctx context.Context, id string, question []byte) ([]byte, error) {
	return n.consoles[id].Answer(ctx, question)
}

func (n node) Gauges() console.Gauges { return console.Gauges{Sessions: 3} }
func (n node) Notes() []string        { return nil }

func (n node) Refusals() ([]limits.Refusal, uint64) {
	if n.id != "n1" {
		return nil, 0
	}
	return n.refusals, uint64(len(n.refusals))
}

func (n node) Attempts() []webhook.Attempt {
	if n.id != "n1" {
		return nil
	}
	return []webhook.Attempt{{Seq: 1, Service: 1, Error: "status 500", Number: 1}}
}

func (n node) Hurry(seq uint64) bool {
	n.cluster.hurried = append(n.cluster.hurried, seq)
	return n.id == "n1"
}

func (n node) Backups() (console.Backups, error) {
	if n.id == "n2" {
		return n.cluster.backups, nil
	}
	return console.Backups{}, nil
}

// keyring is auth.Keyring.
type keyring struct{ view func() *fsm.View }

func (k keyring) Account() (string, []string) { return account, []string{authToken} }

func (k keyring) Key(text string) (auth.Key, bool) {
	sid, _ := objects.ParseSID(text)
	key, ok := k.view().Key(sid)
	if !ok {
		return auth.Key{}, false
	}
	return auth.Key{Secret: key.Secret, Scope: key.KeyScope}, true
}

// page is a browser with a page of the console open.
type page struct {
	t       *testing.T
	cluster *cluster
	node    string
	cookie  *http.Cookie
	headers map[string]string // besides the console's own
}

// browse opens a page at a node.
func (c *cluster) browse(t *testing.T, node string) *page {
	return &page{t: t, cluster: c, node: node, headers: map[string]string{"X-Lockstep-Console": "1", "Sec-Fetch-Site": "same-origin"}}
}

func (p *page) request(method, url string, body any) *http.Request {
	b, err := json.Marshal(body)
	require.NoError(p.t, err)
	r := httptest.NewRequest(method, url, bytes.NewReader(b))
	for name, value := range p.headers {
		r.Header.Set(name, value)
	}
	if p.cookie != nil {
		r.AddCookie(p.cookie)
	}
	return r
}

func (p *page) do(method, path string, body any) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.cluster.consoles[p.node].ServeHTTP(w, p.request(method, path, body))
	return w
}

// get asks for JSON, and wants a status.
func (p *page) get(path string, status int, into any) {
	p.t.Helper()
	w := p.do("GET", path, nil)
	require.Equal(p.t, status, w.Code, "%s: %s", path, w.Body)
	if into != nil {
		require.NoError(p.t, json.Unmarshal(w.Body.Bytes(), into))
	}
}

// login logs in; its answer is returned.
func (p *page) login(with map[string]string) *httptest.ResponseRecorder {
	w := p.do("POST", "/console/api/session", with)
	for _, c := range w.Result().Cookies() {
		p.cookie = c
	}
	return w
}

// loggedIn is browse and login.
func (c *cluster) loggedIn(t *testing.T, with map[string]string) *page {
	p := c.browse(t, "n1")
	w := p.login(with)
	require.Equal(t, 200, w.Code, w.Body)
	return p
}

var asAccount = map[string]string{"Key": account, "Secret": authToken}

var (
	references = regexp.MustCompile(`(?:src|href)="([^"]+)"`)
	imports    = regexp.MustCompile(`from '(\.[^']+)'`)
)

// resolve returns the path that an import of a file names.
func resolve(file, imported string) string { return path.Join(path.Dir(file), imported) }

func refusalOf(service objects.SID) limits.Refusal {
	return limits.Refusal{Bucket: objects.Bucket{Class: objects.BucketNewMaps, SID: service, Identity: "alice"}, Count: 3}
}
