package livequery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
	"lockstep/server/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with live queries, in virtual time.
type world struct {
	*testing.T
	node      *fsmtest.Node
	hub       *hub.Hub
	queries   *Queries
	behind    prometheus.Counter
	evaluated prometheus.Counter
}

// inWorld runs a test. change, which may be nil, sets up the live queries.
func inWorld(t *testing.T, change func(*Config), test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			T: t, node: fsmtest.New(nil),
			behind:    prometheus.NewCounter(prometheus.CounterOpts{Name: "behind"}),
			evaluated: prometheus.NewCounter(prometheus.CounterOpts{Name: "evaluated"}),
		}
		w.hub = hub.New(hub.Config{
			Feed: w.node.FSM().Feed(), View: w.node.View,
			Encode: func(*objects.Event, hub.Form) hub.Frame { return hub.Frame{Bytes: []byte("event")} },
		})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { w.hub.Run(ctx) })
		config := Config{
			Hub: w.hub, View: w.node.View, Slots: 1, Behind: w.behind, Evaluated: w.evaluated,
			EncodeUpdate: func(_ hub.Form, _ string, i *objects.Item, at objects.EventID) []byte {
				return fmt.Appendf(nil, "%d %s=%s", at, i.Key, i.Data)
			},
			EncodeRemoval: func(_ hub.Form, _ string, i *objects.Item, at objects.EventID) []byte {
				return fmt.Appendf(nil, "%d -%s=%s", at, i.Key, i.Data)
			},
			EncodeResult: func(_ hub.Form, _ string, result []*objects.Item, at objects.EventID) []byte {
				return fmt.Appendf(nil, "%d: %s", at, text(result))
			},
		}
		if change != nil {
			change(&config)
		}
		w.queries = New(config)
		defer func() {
			w.queries.Close()
			cancel()
			running.Wait()
		}()
		test(w)
		w.queries.Close()
		require.Zero(t, w.hub.Topics())
	})
}

func text(items []*objects.Item) string {
	var all []string
	for _, i := range items {
		all = append(all, fmt.Sprintf("%s=%s", i.Key, i.Data))
	}
	return strings.Join(all, " ")
}

func value(t *testing.T, c prometheus.Metric) float64 {
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.Counter.GetValue()
}

func (w *world) newMap() objects.SID {
	sid := objects.NewSID(objects.KindMap, commandid.New())
	w.node.Must(&fsm.CreateObject{SID: sid})
	return sid
}

func (w *world) put(m objects.SID, key, data string) {
	w.node.Must(&fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Item: fsm.ItemKey{Key: key}, Mode: fsm.PutItem, Data: []byte(data)})
}

// remove removes an item, if it is there.
func (w *world) remove(m objects.SID, key string) {
	o, _ := w.node.View().ObjectBySID(m)
	if _, there := w.node.View().Item(o, fsm.ItemKey{Key: key}); there {
		w.node.Must(&fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Item: fsm.ItemKey{Key: key}})
	}
}

// at returns the last event of a map.
func (w *world) at(m objects.SID) objects.EventID {
	o, ok := w.node.View().ObjectBySID(m)
	require.True(w, ok)
	return o.EventID
}

// request is that of an identity, for a query of some text.
func (w *world) request(identity string, m objects.SID, text string) Request {
	q, err := query.Parse(text)
	require.NoError(w, err)
	return Request{Identity: identity, ID: m.String() + q.String(), Map: m, Query: q}
}

func (w *world) use(request Request) *Use {
	u, refused := w.queries.Use(request)
	require.Nil(w, refused)
	return u
}

// follow subscribes to a live query, and waits until it is there.
func (w *world) follow(m objects.SID, text string) *listener {
	u := w.use(w.request("alice", m, text))
	require.NoError(w, u.Await(w.Context(), w.at(m)))
	return w.listen(u)
}

func (w *world) listen(u *Use) *listener {
	l := &listener{use: u}
	l.leave = u.Join(l)
	return l
}

// busy takes all slots until the test gives them back.
func (w *world) busy() (free func()) {
	t, err := w.queries.slots.enter(w.Context(), scans, "test")
	require.NoError(w, err)
	return t.leave
}

// result returns what matches now.
func (w *world) result(m objects.SID, text string) []*objects.Item {
	view := w.node.View()
	o, ok := view.ObjectBySID(m)
	require.True(w, ok)
	request := w.request("test", m, text)
	request.ID = "another"
	items, refused := w.queries.Result(w.Context(), request, view, o)
	require.Nil(w, refused)
	return items
}

// listener is a subscriber that writes down what it hears. After falling behind it
// takes the whole result, as a subscription does.
type listener struct {
	use   *Use
	leave func()

	mu      sync.Mutex
	heard   []string
	last    objects.EventID
	doubled bool
	behind  bool
	denied  bool // from the next recheck on
	onOffer func()
}

func (l *listener) Offer(id objects.EventID, frames *hub.Frames) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.onOffer != nil {
		l.onOffer()
	}
	l.doubled = l.doubled || id <= l.last
	l.last = id
	l.heard = append(l.heard, string(frames.In(0).Bytes))
	return true
}

func (l *listener) FallBehind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind, l.last = true, 0
	l.heard = append(l.heard, "fall behind")
	return true
}

func (l *listener) Recheck() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.denied {
		l.heard = append(l.heard, "denied")
	}
	return !l.denied
}

func (l *listener) End(why *objects.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, fmt.Sprint("ended ", why.Status))
}

// took returns what was heard since the last call.
func (l *listener) took() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	heard := l.heard
	l.heard = nil
	return heard
}

// state returns the items that a client would have after what it heard, which
// began with known.
func (l *listener) state(known map[string]string) []string {
	for _, h := range l.took() {
		_, rest, _ := strings.Cut(h, " ")
		key, data, _ := strings.Cut(rest, "=")
		if removed, ok := strings.CutPrefix(key, "-"); ok {
			delete(known, removed)
		} else {
			known[key] = data
		}
	}
	var all []string
	for key, data := range known {
		all = append(all, key+"="+data)
	}
	slices.Sort(all)
	return all
}

const moment = time.Millisecond
