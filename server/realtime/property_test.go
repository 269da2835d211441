package realtime

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

// Whatever other writers, its own writes, the bounds of its queue and losses do
// to a subscriber: it hears rising event ids, and ends in the state of the
// server. One that never fell behind hears every event.
func TestSubscribersEndInTheStateOfTheServer(t *testing.T) {
	for _, length := range []int{2, 16, 1024} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			r := start(t, func(c *Config) { c.QueueLength = length })
			rapid.Check(t, func(rt *rapid.T) {
				s := &scenario{
					rig: r, state: map[string]string{}, told: map[objects.EventID]bool{},
					before:  rapid.IntRange(0, 20).Draw(rt, "writes before"),
					writers: rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 9), 1, 30), 1, 3).Draw(rt, "writers"),
					own:     rapid.SliceOfN(rapid.IntRange(0, 9), 0, 10).Draw(rt, "own writes"),
					loses:   rapid.Bool().Draw(rt, "loses"),
				}
				s.run()
				if length == 1024 && !s.loses {
					s.requireEveryEvent()
				}
			})
		})
	}
}

// scenario is one run. Writes are numbers: below 8 a key, else a removal.
type scenario struct {
	*rig
	before       int
	writers      [][]int
	own          []int
	loses        bool
	m            *objects.Object
	state        map[string]string // of the client
	established  objects.EventID
	last         objects.EventID
	told         map[objects.EventID]bool // events after established, by notification or reply
	removals     map[string]bool          // ids of own removals under way
	removed      objects.EventID          // the last own removal
	replies      int
	subscription bool
}

func (s *scenario) run() {
	s.m = s.create(objects.KindMap, "")
	for i := range s.before {
		s.put(s.m, fmt.Sprint("k", i%5), fmt.Sprint(i))
	}
	c := s.connect("alice")
	defer func() {
		c.conn.Close()
		eventually(s.t, func() bool { return len(s.sessions()) == 0 })
	}()
	var work sync.WaitGroup
	for w, keys := range s.writers {
		work.Go(func() { s.writeMany(w, keys) })
	}
	c.request("POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":1,"requests":[`+to(s.m, 0)+`]}`)
	s.writeOwn(c)
	if s.loses {
		s.session("alice").Lost()
	}
	work.Wait()
	for !s.subscription || s.replies < 1+len(s.own) {
		s.hear(c.next())
	}
	end := s.put(s.m, "end", "0")
	for s.last < end {
		s.hear(c.next())
	}
	s.requireState()
}

func (s *scenario) writeMany(w int, keys []int) {
	for n, key := range keys {
		if key < 8 {
			s.put(s.m, fmt.Sprint("k", key), fmt.Sprint(w*1000+n))
			continue
		}
		s.put(s.m, fmt.Sprint("w", w), "0")
		s.removeItem(s.m, fmt.Sprint("w", w))
	}
}

func (s *scenario) writeOwn(c *client) {
	s.removals = map[string]bool{}
	path := "/v3/Maps/" + s.m.SID.String() + "/Items/mine"
	for n, key := range s.own {
		if key < 8 {
			c.request("PUT", path, fmt.Sprintf(`{"data":{"n":%d}}`, n))
		} else {
			s.removals[c.request("DELETE", path, "data_sync")] = true
		}
	}
}

func (s *scenario) hear(f received) {
	switch {
	case f.Method == "reply":
		s.replies++
		if s.removals[f.ID] && f.HTTP.Code == 200 {
			var removed struct {
				Event objects.EventID `json:"last_event_id"`
			}
			require.NoError(s.t, json.Unmarshal(f.Payload, &removed))
			s.told[removed.Event] = true
			s.removed = removed.Event
			delete(s.state, "mine")
		}
	case f.Event.Type == "subscription_established":
		s.subscription, s.established = true, *f.Event.Event.Last
		require.GreaterOrEqual(s.t, s.established, s.last)
	default:
		e := f.Event.Events[0]
		require.Greater(s.t, e.ID, s.last)
		s.last = e.ID
		s.told[e.ID] = true
		switch {
		case f.Event.Type == "map_item_removed":
			require.NotEqual(s.t, "mine", e.Key, "the reply told it")
			delete(s.state, e.Key)
		case e.Key == "mine" && e.ID < s.removed: // clients know better already
		default:
			s.state[e.Key] = string(e.Item)
		}
	}
}

func (s *scenario) requireState() {
	want := map[string]string{}
	view := s.node.View()
	o, _ := view.ObjectBySID(s.m.SID)
	view.EachItem(o, func(i *objects.Item) bool {
		want[i.Key] = string(i.Data)
		return true
	})
	require.Equal(s.t, want, s.state)
}

func (s *scenario) requireEveryEvent() {
	for id := s.established + 1; id <= s.last; id++ {
		require.True(s.t, s.told[id], "event %d", id)
	}
}
