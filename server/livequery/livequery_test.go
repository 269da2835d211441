package livequery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/hub"
)

const reds = `team == "red"`

func TestEachResultChangeIsToldOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		w.put(m, "ann", `{"team":"red"}`)
		l := w.follow(m, reds)
		frame, at, over := l.use.State(0)
		require.Nil(w, over)
		require.Equal(w, `1: ann={"team":"red"}`, string(frame))
		require.EqualValues(w, 1, at)
		w.put(m, "ben", `{"team":"blue"}`)
		w.put(m, "ann", `{"team":"red","n":2}`)
		w.put(m, "ann", `{"team":"blue"}`)
		w.put(m, "ann", `{"team":"red"}`)
		w.remove(m, "ben")
		w.remove(m, "ann")
		require.Equal(w, []string{`3 ann={"team":"red","n":2}`, `4 -ann={"team":"blue"}`, `5 ann={"team":"red"}`, `7 -ann={"team":"red"}`}, l.took())
		frame, _, _ = l.use.State(0)
		require.Equal(w, "7: ", string(frame))
		l.leave()
		l.leave()
		require.Zero(w, w.queries.Count())
	})
}

// Nobody waits for an evaluation, not even for many of them: others hear of what
// happens, and the backlog stays within its bounds.
func TestHubDoesNotWaitForEvaluation(t *testing.T) {
	inWorld(t, func(c *Config) { c.BacklogLength, c.MapBacklogBytes = 10, 100_000 }, func(w *world) {
		m := w.newMap()
		l := w.follow(m, reds)
		free := w.busy()
		q := w.hub.NewQueue("bob", func(hub.Urgency) {})
		others := q.Subscribe("m", m, quiet{}, func(s *hub.Subscription) func() { return w.hub.Follow(m, s).Stop })
		others.Start(0)
		q.Fill(nil, 1)
		for i := range 50 {
			w.put(m, "k", fmt.Sprintf(`{"team":"red","n":%d}`, i))
		}
		synctest.Wait()
		frames, _ := q.Waiting()
		require.Equal(w, 50, frames)
		require.Empty(w, l.took())
		require.LessOrEqual(w, len(w.queries.workers[m].backlog), 10)
		require.Equal(w, 1.0, value(w.T, w.behind), "one loss of the place")
		free()
		require.Equal(w, []string{`50 k={"team":"red","n":49}`}, l.took(), "the present state, once")
		w.put(m, "k", `{"team":"blue"}`)
		require.Equal(w, []string{`51 -k={"team":"blue"}`}, l.took())
		q.UnsubscribeAll()
		l.leave()
	})
}

// quiet is a source of a subscription that is live at once.
type quiet struct{}

func (quiet) Form() hub.Form                                 { return 0 }
func (quiet) Check(*fsm.View) *objects.Error                 { return nil }
func (quiet) Established(b []byte, _ objects.EventID) []byte { return b }
func (quiet) Ended(b []byte, _ *objects.Error) []byte        { return b }
func (quiet) Replay(b []byte, _ *fsm.View, _, after, _ objects.EventID) ([]byte, objects.EventID, bool, *objects.Error) {
	return b, after, false, nil
}

func TestBacklogIsBoundedInBytes(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"of a map": func(c *Config) { c.MapBacklogBytes = 20_000 },
		"in all":   func(c *Config) { c.BacklogBytes = 20_000 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, change, func(w *world) {
				m := w.newMap()
				l := w.follow(m, reds)
				free := w.busy()
				for i := range 5 {
					w.put(m, fmt.Sprint(i), `{"team":"red","x":"`+strings.Repeat("x", 9000)+`"}`)
				}
				synctest.Wait()
				require.Equal(w, 1.0, value(w.T, w.behind))
				free()
				require.Len(w, l.took(), 5, "nothing is lost")
				l.leave()
				synctest.Wait()
				require.True(w, w.queries.backlog.Take("any", 20_000), "all is given back")
			})
		})
	}
}

// Whatever is written, and however often the worker falls behind, what each
// client hears leads to the result, and no event is told twice.
func TestSubscribersConvergeAndHearNoEventTwice(t *testing.T) {
	for seed := range uint64(20) {
		inWorld(t, func(c *Config) { c.BacklogLength = 8 }, func(w *world) {
			random := rand.New(rand.NewPCG(seed, 1))
			m := w.newMap()
			texts := []string{reds, `n == "1"`, `team == "blue" or n == "2"`, ""}
			followers := map[string]*listener{}
			known := map[string]map[string]string{}
			var free func()
			for range 300 {
				switch n := random.IntN(20); {
				case n == 0 && free == nil:
					free = w.busy()
				case n <= 1 && free != nil:
					free()
					free = nil
				case n == 2 && free == nil:
					text := texts[random.IntN(len(texts))]
					if l := followers[text]; l != nil {
						l.leave()
						delete(followers, text)
					} else if len(w.result(m, text)) <= objects.MaxQueryResult {
						followers[text], known[text] = w.follow(m, text), map[string]string{}
						for _, i := range w.result(m, text) {
							known[text][i.Key] = string(i.Data)
						}
					}
				case n < 7:
					w.remove(m, fmt.Sprint("k", random.IntN(30)))
				default:
					w.put(m, fmt.Sprint("k", random.IntN(30)), fmt.Sprintf(`{"team":"%s","n":%d}`, []string{"red", "blue"}[random.IntN(2)], random.IntN(4)))
				}
				if random.IntN(5) == 0 {
					synctest.Wait()
				}
			}
			if free != nil {
				free()
			}
			for text, l := range followers {
				var want []string
				for _, i := range w.result(m, text) {
					want = append(want, fmt.Sprintf("%s=%s", i.Key, i.Data))
				}
				slices.Sort(want)
				require.Equal(w, want, l.state(known[text]), "seed %d: %s", seed, text)
				require.False(w, l.doubled)
				require.False(w, l.behind)
				l.leave()
			}
		})
	}
}

// A query that is loaded while the worker is far behind hears of what came after
// the state that it was loaded from, and the others of each change.
func TestQueryLoadedFromOlderStateCatchesUp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		w.put(m, "a", `{"team":"red"}`)
		first := w.follow(m, reds)
		free := w.busy()
		late := w.use(w.request("bob", m, `n == "2"`))
		for i := range 3 {
			w.put(m, "a", fmt.Sprintf(`{"team":"red","n":%d}`, i))
		}
		free()
		require.Len(w, first.took(), 3)
		require.NoError(w, late.Await(w.Context(), 4))
		frame, _, _ := late.State(0)
		require.Equal(w, `4: a={"team":"red","n":2}`, string(frame))
		late.Release()
		first.leave()
	})
}

func snapshot(w *world) io.ReadCloser {
	var b bytes.Buffer
	require.NoError(w, w.node.FSM().WriteSnapshot(&b))
	return io.NopCloser(&b)
}

// Where the history does not reach back, the result is loaded again, and who
// follows it hears the whole of it.
func TestQueryIsReloadedAfterRestore(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		w.put(m, "a", `{"team":"red"}`)
		before := snapshot(w)
		w.put(m, "b", `{"team":"red"}`)
		l := w.follow(m, reds)
		require.NoError(w, w.node.FSM().Restore(before))
		require.Equal(w, []string{"fall behind"}, l.took())
		frame, at, _ := l.use.State(0)
		require.Equal(w, `1: a={"team":"red"}`, string(frame))
		require.EqualValues(w, 1, at)
		w.put(m, "c", `{"team":"red"}`)
		require.Equal(w, []string{`2 c={"team":"red"}`}, l.took())
		l.leave()
	})
}

func TestQueryIsReloadedWhenHistoryIsTooShort(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		w.put(m, "a", `{"team":"red"}`)
		l := w.follow(m, reds)
		free := w.busy()
		large := `{"x":"` + strings.Repeat("x", 16_000) + `"}`
		w.remove(m, "a")
		for i := range 300 { // more bytes than are remembered
			w.put(m, fmt.Sprint(i), large)
			w.remove(m, fmt.Sprint(i))
		}
		o, _ := w.node.View().ObjectBySID(m)
		require.False(w, w.node.View().CanReplay(o, 2))
		free()
		require.Equal(w, []string{"fall behind"}, l.took())
		frame, _, _ := l.use.State(0)
		require.Equal(w, "602: ", string(frame))
		l.leave()
	})
}

// A subscriber that may no longer read hears nothing of what waits to be
// evaluated.
func TestRevokedPermissionEndsSubscriberBeforeBacklog(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		l := w.follow(m, reds)
		free := w.busy()
		w.put(m, "secret", `{"team":"red"}`)
		l.denied = true
		w.node.Must(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{SID: m}, Identity: "alice"})
		synctest.Wait()
		free()
		require.Equal(w, []string{"denied"}, l.took())
		l.leave()
	})
}

// Between two evaluations, too.
func TestRevokedPermissionEndsSubscriberBetweenQueries(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		a, b := w.follow(m, reds), w.follow(m, `team != "blue"`)
		lose := func(other *listener) func() {
			return func() {
				other.mu.Lock()
				other.denied = true
				other.mu.Unlock()
				w.queries.workers[m].recheck.Store(true)
			}
		}
		a.onOffer, b.onOffer = lose(b), lose(a)
		w.put(m, "secret", `{"team":"red"}`)
		require.ElementsMatch(w, [][]string{{"denied"}, {`1 secret={"team":"red"}`}}, [][]string{a.took(), b.took()})
		a.leave()
		b.leave()
	})
}

func TestRemovedMapEndsQueriesAfterBacklog(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		l := w.follow(m, reds)
		free := w.busy()
		w.put(m, "a", `{"team":"red"}`)
		w.node.Must(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: m}})
		synctest.Wait()
		free()
		require.Equal(w, []string{`1 a={"team":"red"}`, "ended 404"}, l.took())
		again := w.use(w.request("alice", m, reds))
		require.NoError(w, again.Await(w.Context(), 9), "nobody waits for what is over")
		_, _, over := again.State(0)
		require.Equal(w, objects.ErrMapGone, over)
		again.Release()
		l.leave()
		require.Zero(w, w.queries.Count())
	})
}

func TestMapMissingDuringCatchUpEndsQueries(t *testing.T) {
	inWorld(t, func(c *Config) { c.BacklogLength = 1 }, func(w *world) {
		m := w.newMap()
		l := w.follow(m, reds)
		free := w.busy()
		for range 3 {
			w.put(m, "a", `{"team":"red"}`)
		}
		w.node.Must(&fsm.RemoveObject{Kind: objects.KindMap, Object: fsm.Ref{SID: m}})
		synctest.Wait()
		free()
		require.Equal(w, []string{"ended 404"}, l.took())
		l.leave()
	})
}

func TestTooLargeResultEndsOneQueryOnly(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		for i := range objects.MaxQueryResult {
			w.put(m, fmt.Sprintf("k%03d", i), `{"team":"red"}`)
		}
		large, small := w.follow(m, reds), w.follow(m, `n == "1"`)
		w.put(m, "more", `{"team":"red","n":1}`)
		require.Equal(w, []string{"ended 400"}, large.took())
		require.Len(w, small.took(), 1)

		again := w.use(w.request("bob", m, reds))
		require.NoError(w, again.Await(w.Context(), 1))
		_, _, over := again.State(0)
		require.Equal(w, objects.ErrQueryLarge, over)
		again.Release()
		w.remove(m, "more")
		again = w.use(w.request("bob", m, reds))
		require.NoError(w, again.Await(w.Context(), w.at(m)))
		_, _, over = again.State(0)
		require.Nil(w, over, "another use is a new beginning")
		again.Release()
		large.leave()
		small.leave()
	})
}

func TestDistinctQueriesAreBounded(t *testing.T) {
	inWorld(t, func(c *Config) { c.PerIdentity, c.PerMap, c.Total = 3, 4, 5 }, func(w *world) {
		m, other := w.newMap(), w.newMap()
		n := func(i int) string { return fmt.Sprintf(`n == "%d"`, i) }
		var uses []*Use
		for i := range 3 {
			uses = append(uses, w.use(w.request("alice", m, n(i))), w.use(w.request("alice", m, n(i))))
		}
		refused := func(request Request) {
			t.Helper()
			require.Equal(w, 429, w.queries.CheckBounds(request).Status)
			_, why := w.queries.Use(request)
			require.Equal(w, 429, why.Status)
		}
		refused(w.request("alice", other, n(0)))
		uses = append(uses, w.use(w.request("bob", m, n(0))), w.use(w.request("bob", m, n(3))))
		refused(w.request("bob", m, n(4)))
		uses = append(uses, w.use(w.request("bob", other, n(0))))
		refused(w.request("carol", other, n(1)))
		require.Nil(w, w.queries.CheckBounds(w.request("carol", other, n(0))), "there is no other one")
		require.Equal(w, 5, w.queries.Count())

		uses[0].Release()
		uses[0].Release()
		refused(w.request("alice", other, n(0)))
		uses[1].Release()
		require.Equal(w, 5, w.queries.Count(), "bob uses it")
		uses = append(uses, w.use(w.request("alice", other, n(0))))
		for _, u := range uses {
			u.Release()
		}
		require.Zero(w, w.queries.Count())
		require.Empty(w, w.queries.workers)
		require.Empty(w, w.queries.uses)
	})
}

func TestNegativeBoundsAreUnlimited(t *testing.T) {
	inWorld(t, func(c *Config) { c.PerIdentity, c.PerMap, c.Total = -1, -1, -1 }, func(w *world) {
		m := w.newMap()
		for i := range 200 {
			defer w.use(w.request("alice", m, fmt.Sprintf(`n == "%d"`, i))).Release()
		}
		require.Equal(w, 200, w.queries.Count())
	})
}

// Encoded results are kept for the next client that asks, as long as there is
// room.
func TestCachedResultsAreBounded(t *testing.T) {
	encoded := 0
	inWorld(t, func(c *Config) {
		c.ResultBytes = 250
		c.EncodeResult = func(hub.Form, string, []*objects.Item, objects.EventID) []byte {
			encoded++
			return make([]byte, 100)
		}
	}, func(w *world) {
		m := w.newMap()
		var all []*listener
		for i := range 3 {
			all = append(all, w.follow(m, fmt.Sprintf(`n == "%d"`, i)))
		}
		ask := func(want int) {
			t.Helper()
			encoded = 0
			for range 4 {
				for _, l := range all {
					l.use.State(1)
				}
			}
			require.Equal(w, want, encoded)
		}
		ask(1 + 1 + 4)
		w.put(m, "k", `{}`)
		synctest.Wait()
		ask(1 + 1 + 4)
		for _, l := range all {
			l.leave()
		}
		require.True(w, w.queries.results.Take("any", 250), "all is given back")
	})
}

// One identity that has many scans waiting does not hold up another one, nor
// changes.
func TestScansTakeTurnsByIdentity(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.queries.slots.slice = -1 // each comparison may be the last one of a slice
		long, short := w.newMap(), w.newMap()
		for i := range 500 {
			w.put(long, fmt.Sprint(i), `{"n":1}`)
		}
		w.put(short, "a", `{"n":1}`)
		l := w.follow(short, `n == "1"`)
		free := w.busy()
		var order []string
		ask := func(identity string, m objects.SID, text string) (done chan struct{}) {
			done = make(chan struct{})
			request, view := w.request(identity, m, text), w.node.View()
			request.ID = "another"
			o, _ := view.ObjectBySID(m)
			go func() {
				defer close(done)
				_, refused := w.queries.Result(context.Background(), request, view, o)
				assert.Nil(t, refused)
				w.queries.mu.Lock()
				order = append(order, identity)
				w.queries.mu.Unlock()
			}()
			synctest.Wait()
			return done
		}
		var all []chan struct{}
		for range 20 {
			all = append(all, ask("mallory", long, `n == "2"`))
		}
		all = append(all, ask("alice", short, `n == "1"`))
		l.onOffer = func() {
			w.queries.mu.Lock()
			order = append(order, "change")
			w.queries.mu.Unlock()
		}
		w.put(short, "a", `{"n":1,"m":1}`)
		synctest.Wait()
		free()
		for _, done := range all {
			<-done
		}
		require.Less(w, slices.Index(order, "alice"), 2)
		require.Less(w, slices.Index(order, "change"), 2)
		l.leave()
	})
}

// A fault in one query ends that one only.
func TestEvaluationPanicEndsOneQueryOnly(t *testing.T) {
	inWorld(t, func(c *Config) {
		encode := c.EncodeUpdate
		c.EncodeUpdate = func(form hub.Form, id string, i *objects.Item, at objects.EventID) []byte {
			if strings.Contains(id, "team") {
				panic("encode")
			}
			return encode(form, id, i, at)
		}
	}, func(w *world) {
		m := w.newMap()
		sick, well := w.follow(m, reds), w.follow(m, `n == "1"`)
		for range 2 {
			w.put(m, "k", `{"team":"red","n":1}`)
		}
		require.Equal(w, []string{"ended 500"}, sick.took())
		require.Len(w, well.took(), 2)
		sick.leave()
		well.leave()
	})
}

// A fault while a result is loaded ends that live query: whoever waits for it
// hears so, and the node goes on.
func TestLoadingPanicEndsOneQueryOnly(t *testing.T) {
	faulty := true
	inWorld(t, func(c *Config) {
		view := c.View
		c.View = func() *fsm.View {
			if faulty {
				panic("view")
			}
			return view()
		}
	}, func(w *world) {
		m := w.newMap()
		u := w.use(w.request("alice", m, reds))
		require.NoError(w, u.Await(w.Context(), 1), "nobody waits for what is over")
		_, _, over := u.State(0)
		require.Equal(w, objects.ErrInternal, over)
		faulty = false
		l := w.follow(m, reds)
		w.put(m, "k", `{"team":"red"}`)
		require.Len(w, l.took(), 1)
		u.Release()
		l.leave()
	})
}

// A worker with a fault ends its queries, and the next one begins anew.
func TestWorkerPanicEndsItsQueries(t *testing.T) {
	var faulty atomic.Bool
	inWorld(t, func(c *Config) {
		view := c.View
		c.View = func() *fsm.View {
			if faulty.Load() {
				panic("view")
			}
			return view()
		}
	}, func(w *world) {
		m := w.newMap()
		for _, fault := range []func(){
			func() { w.queries.workers[m].OnPanic() },
			func() { faulty.Store(true); w.queries.workers[m].OnGap(nil) },
		} {
			l := w.follow(m, reds)
			fault()
			require.Equal(w, []string{"ended 500"}, l.took())
			faulty.Store(false)
			again := w.follow(m, reds)
			w.put(m, "k", `{"team":"red"}`)
			require.Len(w, again.took(), 1)
			again.leave()
			l.leave()
		}
	})
}

func TestAwaitEndsWithContext(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		free := w.busy()
		defer free()
		ctx, cancel := context.WithTimeout(w.Context(), moment)
		defer cancel()
		u := w.use(w.request("alice", m, reds))
		require.ErrorIs(w, u.Await(ctx, 1), context.DeadlineExceeded)
		view := w.node.View()
		o, _ := view.ObjectBySID(m)
		_, refused := w.queries.Result(ctx, w.request("alice", m, reds), view, o)
		require.Equal(w, objects.ErrUnavailable, refused)
		u.Release()
	})
}

// Close ends what is loaded, what is being loaded, and what waits.
func TestCloseStopsAllGoroutines(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		m := w.newMap()
		w.follow(m, reds)
		free := w.busy()
		w.use(w.request("alice", m, `n == "1"`))
		w.put(m, "k", `{}`)
		synctest.Wait()
		w.queries.Close()
		free()
	})
}
