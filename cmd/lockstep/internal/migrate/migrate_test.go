package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/server/admin"
	"lockstep/server/transfer"
)

// fill puts something of each kind into the shop and into the default service.
func (tw *twilio) fill(items int) (doc, list, aMap string) {
	doc = tw.add(theirShop, "Documents", "config", 5)
	list = tw.add(theirShop, "Lists", "journey", 0)
	aMap = tw.add(theirShop, "Maps", "", 0)
	tw.add(theirShop, "Streams", "moves", 0)
	for i := range items {
		tw.put(list, 2*i, resource{"n": i}) // with gaps
		tw.put(aMap, fmt.Sprintf("key %04d", i), resource{"n": i})
	}
	tw.permit(aMap, "alice", true)
	tw.permit(doc, "bob", false)
	for i := range 30 {
		tw.add(theirDefault, "Documents", fmt.Sprint("d", i), i)
	}
	return doc, list, aMap
}

func none(t *testing.T, r *Report) {
	t.Helper()
	differences, _ := r.Differences()
	require.Empty(t, differences)
}

// same requires that everything is in the cluster as the source shows it.
func (tw *twilio) same(c *cluster) {
	tw.t.Helper()
	compared := tw.copier(c, "")
	compared.To.Compare = true
	require.NoError(tw.t, compared.Verify(tw.t.Context()))
	none(tw.t, compared.To.Report)
	require.Zero(tw.t, compared.To.Report.Found())
	tw.mu.Lock()
	defer tw.mu.Unlock()
	want := 1
	for name, all := range tw.objects {
		if strings.HasPrefix(name, theirShop) {
			want += len(all)
			for _, o := range all {
				want += len(tw.parts[o["sid"].(string)+"/Items"]) + len(tw.parts[o["sid"].(string)+"/Permissions"])
			}
		}
	}
	require.Len(tw.t, c.service(theirShop), want, "nothing twice, nothing more")
}

func TestImportIsWhatTheSourceShows(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	_, list, aMap := tw.fill(250)
	m := tw.copier(c, filepath.Join(t.TempDir(), "state"))
	require.NoError(t, m.Import(t.Context()))
	none(t, m.To.Report)
	require.Equal(t, 500, m.To.Report.Counts().Items)
	require.Equal(t, 2, m.To.Report.Counts().Services, "once each, however many rounds there were")
	require.True(t, m.State.Finished())
	tw.same(c)
	all := strings.Join(c.service(theirShop), "\n")
	require.Contains(t, all, `"kind":"list","service_sid":"`+theirShop+`","sid":"`+list+`","unique_name":"journey","revision":"fa"`)
	require.Contains(t, all, `"index":498,`)
	require.Contains(t, all, `"kind":"permission","service_sid":"`+theirShop+`","map_sid":"`+aMap+`","identity":"alice","read":true`)
	require.Contains(t, all, `"created_by":"bob"`)
	require.Len(t, c.service(theirDefault), 31, "the default service has the SID that applications know")
}

func TestDryRunChangesNothing(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.fill(10)
	m := tw.copier(c, "")
	m.To.Compare = true
	require.NoError(t, m.Verify(t.Context()))
	require.Equal(t, Found{Missing: 1 + 4 + 20 + 2 + 30, Other: 1}, m.To.Report.Found(), "all but the default service, which is there")
	require.Empty(t, c.service(theirShop))
}

// Faults of every kind, one request in three: the import goes through, and nothing is
// missing or there twice.
func TestImportOverFaults(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.pageSize = 20
	_, _, aMap := tw.fill(100)
	var n atomic.Int64
	var busy sync.Map
	tw.before = func(w http.ResponseWriter, r *http.Request) bool {
		if until, is := busy.Load(r.URL.Path); is && time.Now().Before(until.(time.Time)) {
			t.Error("asked again before Retry-After")
		}
		switch n.Add(1) % 15 {
		case 3:
			busy.Store(r.URL.Path, time.Now().Add(time.Second))
			w.Header().Set("Retry-After", "1")
			refuse(w, 429, 54009)
		case 6:
			refuse(w, 503, 20503)
		case 9:
			panic(http.ErrAbortHandler)
		case 12:
			fmt.Fprint(w, `{"items": [{"key": "a", `) // cut off
		case 14:
			fmt.Fprint(w, `{"items": "none", "meta": {"key": "items"}}`)
		default:
			return false
		}
		return true
	}
	m := tw.copier(c, "")
	m.Requests = 1 // one that waits is not overtaken
	require.NoError(t, m.Import(t.Context()))
	none(t, m.To.Report)
	tw.mu.Lock()
	tw.before = nil
	tw.mu.Unlock()
	require.Greater(t, n.Load(), int64(30))
	tw.same(c)
	require.NotEmpty(t, aMap)
}

func TestImportThatWasKilledGoesOn(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.fill(150)
	state := filepath.Join(t.TempDir(), "state")
	killed := 0
	for after := int64(1); ; after++ { // at this request
		ctx, kill := context.WithCancel(t.Context())
		var n atomic.Int64
		tw.mu.Lock()
		tw.before = func(http.ResponseWriter, *http.Request) bool {
			if n.Add(1) == after {
				kill()
			}
			return false
		}
		tw.mu.Unlock()
		m := tw.copier(c, state)
		err := m.Import(ctx)
		kill()
		require.NoError(t, m.State.Close())
		// A line that was being written.
		f, ended := os.OpenFile(state, os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, ended)
		_, ended = f.WriteString(`{"service":"IS0`)
		require.NoError(t, errors.Join(ended, f.Close()))
		if len(m.State.objects) > 20 { // what is left is for the last one
			break
		}
		require.Error(t, err)
		require.False(t, m.State.Finished())
		killed++
	}
	require.Greater(t, killed, 5)
	tw.mu.Lock()
	tw.before = nil
	clear(tw.requests)
	tw.mu.Unlock()
	m := tw.copier(c, state)
	before := slices.Collect(maps.Values(m.State.objects))
	require.NotEmpty(t, before)
	require.NoError(t, m.Import(t.Context()))
	none(t, m.To.Report)
	tw.mu.Lock()
	for _, e := range before {
		path := fmt.Sprintf("/v1/Services/%s/Documents/%s/Permissions", e.Service, e.SID)
		require.Zero(t, tw.requests[path], "%s: was copied before", path)
	}
	tw.mu.Unlock()
	tw.same(c)

	again := tw.copier(c, state)
	require.True(t, again.State.Finished())
	_, err := OpenState(state, tw.url, "AC2", "cluster")
	require.ErrorContains(t, err, "is not the state of an import from "+tw.url+" (AC2)")
}

// A file of something else stays as it is, even one whose only line has no end.
func TestStateIsKeptInNoOtherFile(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for _, text := range []string{"secret", "secret\n", `{"lockstep_import":1,"from":"another"`} {
		require.NoError(t, os.WriteFile(state, []byte(text), 0o600))
		_, err := OpenState(state, "http://there", "AC1", "cluster")
		require.ErrorContains(t, err, "is not the state of an import from http://there (AC1)")
		kept, err := os.ReadFile(state)
		require.NoError(t, err)
		require.Equal(t, text, string(kept))
	}
	require.NoError(t, os.WriteFile(state, []byte(`{"lockstep_import":1,"from":"http:`), 0o600)) // killed while it was begun
	s, err := OpenState(state, "http://there", "AC1", "cluster")
	require.NoError(t, err)
	require.NoError(t, s.Close())
	kept, err := os.ReadFile(state)
	require.NoError(t, err)
	require.Equal(t, `{"lockstep_import":1,"from":"http://there","account":"AC1","to":"cluster"}`+"\n", string(kept))
}

func TestPagesThatGoRoundAreNoticed(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/Maps") {
			return false
		}
		next := map[string]string{"": "a", "a": "b", "b": "c", "c": "a"}[r.URL.Query().Get("PageToken")]
		answer(w, resource{"maps": []resource{}, "meta": resource{"key": "maps", "next_page_url": tw.url + r.URL.Path + "?PageToken=" + next}})
		return true
	}
	require.ErrorContains(t, tw.copier(c, "").Import(t.Context()), "go round in a ring")

	tw.before = func(w http.ResponseWriter, r *http.Request) bool {
		answer(w, resource{"services": []resource{}, "meta": resource{"key": "services", "next_page_url": tw.url + "/elsewhere"}})
		return true
	}
	m := tw.copier(c, "")
	m.From.Patience = time.Millisecond
	require.ErrorContains(t, m.Import(t.Context()), "the next page is at")
}

// What changes while it is read is read again; what goes meanwhile is not there.
func TestImportOfWhatChangesUnderWay(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.pageSize = 20
	_, list, aMap := tw.fill(60)
	lost := tw.add(theirShop, "Maps", "lost", 0)
	tw.put(lost, "a", 1)
	var n atomic.Int64
	tw.before = func(_ http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, list+"/Items") && n.Add(1) == 2:
			tw.removeItem(list, 0) // what follows moves forward by one
			tw.put(list, 500, "new")
		case strings.HasSuffix(r.URL.Path, lost+"/Items"):
			tw.remove(lost)
		}
		return false
	}
	m := tw.copier(c, "")
	require.NoError(t, m.Import(t.Context()))
	none(t, m.To.Report)
	tw.same(c)
	require.NotContains(t, strings.Join(c.service(theirShop), ""), lost)
	require.NotEmpty(t, aMap)
}

func TestWhatIsTakenHereIsTold(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	doc, _, aMap := tw.fill(3)
	require.NoError(t, FromFile(t.Context(), export(t, `{"kind":"service","sid":"`+theirShop+`"}`, `{"kind":"document","service_sid":"`+theirShop+`","sid":"ET000000000000000000000000000000ff","unique_name":"config","data":1}`), c.target(&Report{}), nil))
	require.NoError(t, c.rest().Do(t.Context(), created("default", "Documents"), nil))
	m := tw.copier(c, "")
	require.NoError(t, m.Import(t.Context()))
	differences, _ := m.To.Report.Differences()
	require.Len(t, differences, 2)
	require.Contains(t, differences[0], "the service default has objects of its own here")
	require.Contains(t, differences[1], "document "+doc+" (config): refused: 54301")
	require.Contains(t, strings.Join(c.service(theirShop), ""), aMap)
	require.Len(t, c.service("default"), 1+1+30)
}

func export(t *testing.T, lines ...string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w, err := transfer.NewWriter(&b, "", time.Now())
	require.NoError(t, err)
	for _, l := range lines {
		require.NoError(t, w.Write(record(t, l)))
	}
	require.NoError(t, w.Close())
	return &b
}

func TestMirrorFollows(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	doc, list, aMap := tw.fill(40)
	gone := tw.add(theirShop, "Maps", "gone", 0)
	m := &Mirror{Copier: tw.copier(c, filepath.Join(t.TempDir(), "state")), Every: 20 * time.Millisecond}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Follow(ctx, false) }()
	require.Eventually(t, m.State.Finished, 20*time.Second, 10*time.Millisecond)
	tw.set(doc, "changed")
	tw.put(list, 1000, "more")
	tw.removeItem(list, 2)
	tw.removeItem(aMap, "key 0007")
	tw.put(aMap, "key 0008", "other")
	tw.remove(gone)
	added := tw.add(theirShop, "Lists", "added", 0)
	has := func() bool {
		all := strings.Join(c.service(theirShop), "")
		return strings.Contains(all, `"changed"`) && strings.Contains(all, `"index":1000`) && !strings.Contains(all, `"index":2,`) &&
			!strings.Contains(all, "key 0007") && strings.Contains(all, `"other"`) && !strings.Contains(all, gone) && strings.Contains(all, added)
	}
	require.Eventually(t, has, 20*time.Second, 50*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	tw.forbid(aMap, "alice")
	tw.permit(doc, "bob", true)
	report := &Report{}
	require.NoError(t, m.Switch(t.Context(), report))
	none(t, report)
	tw.same(c)

	// Whoever writes here before the switch is told of.
	require.NoError(t, c.rest().Do(t.Context(), written(theirShop, list), nil))
	tw.set(doc, "once more")
	report = &Report{}
	require.NoError(t, m.Switch(t.Context(), report))
	differences, _ := report.Differences()
	require.Len(t, differences, 1)
	require.Contains(t, differences[0], list)
	require.Contains(t, strings.Join(c.service(theirShop), ""), "once more")
}

// A service that is removed there while it is followed stays here and is told of, and
// goes with Delete; what is in other services, and was never the source's, stays.
func TestMirrorOfServicesThatAreRemoved(t *testing.T) {
	for _, remove := range []bool{false, true} {
		t.Run(fmt.Sprintf("delete=%t", remove), func(t *testing.T) {
			c, tw := startCluster(t), newTwilio(t)
			_, _, aMap := tw.fill(10)
			const old = "IS000000000000000000000000000000d2"
			tw.addService(old, "")
			tw.put(tw.add(old, "Lists", "past", 0), 0, 1)
			tw.add(old, "Documents", "d", 1)
			require.NoError(t, c.rest().Do(t.Context(), client.Request{Method: http.MethodPost, Path: client.Path("Services")}, nil))
			state := filepath.Join(t.TempDir(), "state")
			m := &Mirror{Copier: tw.copier(c, state), Every: 10 * time.Millisecond}
			m.Delete = remove
			require.NoError(t, m.Import(t.Context()))
			require.Len(t, c.service(old), 4)

			// It goes while it is read: between its documents and its lists.
			tw.mu.Lock()
			tw.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, old+"/Lists") {
					tw.removeService(old)
				}
				return false
			}
			tw.mu.Unlock()
			require.NoError(t, c.rest().Do(t.Context(), created(theirShop, "Maps"), nil)) // which is nothing of the source's
			require.NoError(t, m.Follow(t.Context(), true))
			mine := len(c.service(theirShop))
			require.NoError(t, m.State.Close())

			m = &Mirror{Copier: tw.copier(c, state)}
			m.Delete = remove
			report := &Report{}
			require.NoError(t, m.Switch(t.Context(), report))
			differences, _ := report.Differences()
			var services struct{ Services []resource }
			require.NoError(t, c.rest().Get(t.Context(), client.Path("Services"), &services))
			if remove {
				require.Empty(t, differences)
				require.Empty(t, c.service(old))
				require.Len(t, services.Services, 3, "the one that was never the source's is here")
				require.Len(t, c.service(theirShop), mine-1)
			} else {
				require.Len(t, differences, 2)
				require.Contains(t, differences[0], "is here and not there")
				require.Equal(t, "service "+old+" (shop): is here and not there", differences[1])
				require.Equal(t, 2, report.Found().OnlyHere)
				require.Len(t, c.service(old), 4, "all of it")
				require.Len(t, c.service(theirShop), mine)
			}
			require.Contains(t, strings.Join(c.service(theirShop), ""), aMap)
		})
	}
}

// A service that has another name than the one that is mirrored is not gone.
func TestMirrorOfARenamedServiceRemovesNothing(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.fill(3)
	m := &Mirror{Copier: tw.copier(c, ""), Every: 10 * time.Millisecond}
	m.Only, m.Delete = Filter{"shop"}, true
	require.NoError(t, m.Import(t.Context()))
	before := c.service(theirShop)
	tw.mu.Lock()
	tw.services[1]["friendly_name"] = "store"
	tw.mu.Unlock()
	require.NoError(t, m.Follow(t.Context(), true))
	require.Equal(t, before, c.service(theirShop))
}

// An object that is removed there and made again under its name is here, too, at the
// second look: at the first one the old object has the name.
func TestMirrorOfANameThatIsGivenAgain(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	doc, _, _ := tw.fill(3)
	m := &Mirror{Copier: tw.copier(c, ""), Every: 10 * time.Millisecond}
	require.NoError(t, m.Import(t.Context()))
	tw.remove(doc)
	again := tw.add(theirShop, "Documents", "config", 0)
	require.NoError(t, m.Follow(t.Context(), true))
	require.Contains(t, strings.Join(c.service(theirShop), ""), again)
	tw.same(c)
	none(t, m.To.Report) // that it was refused first is settled

	tw.remove(again) // just before the switch
	tw.permit(tw.add(theirShop, "Documents", "config", 0), "alice", true)
	report := &Report{}
	require.NoError(t, m.Switch(t.Context(), report))
	none(t, report)
	require.Zero(t, report.Found())
	tw.same(c)
}

func TestMirrorEndsByItselfWhenAllIsQuiet(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.fill(3)
	m := &Mirror{Copier: tw.copier(c, ""), Every: 10 * time.Millisecond}
	require.NoError(t, m.Follow(t.Context(), true))
	require.True(t, m.State.Finished())
	tw.same(c)
}

func TestWebhooksSayWhatToLookAt(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	doc, _, aMap := tw.fill(3)
	m := &Mirror{Copier: tw.copier(c, ""), Every: time.Hour, Hints: NewHints()}
	hooks := serve(t, m.Hints)
	unhook, err := m.Hook(t.Context(), hooks)
	require.NoError(t, err)
	require.Equal(t, hooks, tw.services[1]["webhook_url"])
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Follow(ctx, false) }()
	require.Eventually(t, m.State.Finished, 20*time.Second, 10*time.Millisecond)
	tw.set(doc, "told")
	tw.remove(aMap)
	post(t, hooks, "EventType=document_updated&ServiceSid="+theirShop+"&DocumentSid="+doc)
	post(t, hooks, "EventType=map_removed&ServiceSid="+theirShop+"&MapSid="+aMap)
	post(t, hooks, "EventType=map_removed&ServiceSid=ISother&MapSid=../../x")
	require.Eventually(t, func() bool {
		all := strings.Join(c.service(theirShop), "")
		return strings.Contains(all, `"told"`) && !strings.Contains(all, aMap)
	}, 20*time.Second, 20*time.Millisecond)
	stop()
	require.NoError(t, <-done)
	require.NoError(t, unhook(t.Context()))
	require.Empty(t, tw.services[1]["webhook_url"])
	require.False(t, slices.ContainsFunc(c.service(theirShop), func(l string) bool { return strings.Contains(l, "webhook_url") }), "the mirror's own is not the service's")

	tw.services[0]["webhook_url"] = "https://a.example/hook"
	_, err = m.Hook(t.Context(), hooks)
	require.ErrorContains(t, err, "https://a.example/hook already")
	require.Empty(t, tw.services[1]["webhook_url"])
}

// What a webhook says is not believed: one that names another service or kind has
// nothing removed or forgotten, and one whose names are none is not kept.
func TestForgedWebhookDoesNoHarm(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	_, _, aMap := tw.fill(3)
	m := &Mirror{Copier: tw.copier(c, ""), Hints: NewHints()}
	require.NoError(t, m.Import(t.Context()))
	hooks := serve(t, m.Hints)
	for _, form := range []string{"ServiceSid=" + theirDefault + "&MapSid=" + aMap, "ServiceSid=" + theirShop + "&DocumentSid=" + aMap} {
		post(t, hooks, form)
		_, err := m.hinted(t.Context())
		require.NoError(t, err)
		_, known := m.State.has(aMap)
		require.True(t, known, form)
	}
	tw.same(c)
	post(t, hooks, "ServiceSid="+strings.Repeat("x", 1000)+"&MapSid="+aMap)
	require.Empty(t, m.Hints.take())
}

// An answer with more outcomes than there are records is an error like any other.
func TestAnswerThatIsNotOfTheRequestIsAnError(t *testing.T) {
	node := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, admin.Import{Outcomes: make([]admin.Outcome, 3)})
	}))
	to := &Target{Operator: &admin.Client{URLs: []string{node}, HTTP: httpClient}, Report: &Report{}}
	b := &batch{target: to}
	require.NoError(t, b.add(t.Context(), record(t, `{"kind":"service","sid":"`+theirShop+`"}`)))
	require.ErrorContains(t, b.flush(t.Context()), "3 outcomes of 1 records")
	require.Zero(t, to.Report.Counts())
}

func TestFileIsBroughtInMuchLikeAnInstallation(t *testing.T) {
	c, tw := startCluster(t), newTwilio(t)
	tw.fill(150)
	var b bytes.Buffer
	require.NoError(t, ToFile(t.Context(), &b, tw.source(), nil, &Report{}))
	require.NoError(t, Check(bytes.NewReader(b.Bytes())))
	report := &Report{}
	require.NoError(t, FromFile(t.Context(), bytes.NewReader(b.Bytes()), c.target(report), Filter{"default", theirShop}))
	none(t, report)
	tw.same(c)
	report = &Report{}
	require.NoError(t, FromFile(t.Context(), bytes.NewReader(b.Bytes()), c.target(report), Filter{"nothing"}))
	require.Zero(t, report.Counts())
	require.ErrorIs(t, Check(bytes.NewReader(b.Bytes()[:b.Len()/2])), transfer.ErrFile)
	lone := export(t, `{"kind":"map","service_sid":"`+theirShop+`","sid":"MP000000000000000000000000000000ff"}`)
	require.ErrorContains(t, FromFile(t.Context(), lone, c.target(&Report{}), nil), "the file has no service "+theirShop)
}
