package validate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/validate"
)

// step is a call of which the first two numbers are when it begins and ends.
type step struct {
	begin, end int
	call       validate.Call
	out        validate.Outcome
}

// history makes one of calls that overlap as their numbers say.
func history(steps ...step) *validate.History {
	h := new(validate.History)
	began := make([]int64, len(steps))
	for now := range 100 {
		for i, s := range steps {
			if s.begin == now {
				began[i] = h.Begin()
			}
			if s.end == now {
				h.End(i, s.call, began[i], s.out)
			}
		}
	}
	return h
}

func set(value int) validate.Call {
	return validate.Call{Object: "o", Kind: validate.Set, Value: value}
}

func compareAndSet(expected, value int) validate.Call {
	return validate.Call{Object: "o", Kind: validate.CompareAndSet, Expected: expected, Value: value}
}

func TestHistoriesThatAreNotLinearizable(t *testing.T) {
	read, at := validate.Call{Object: "o", Kind: validate.Read}, func(v int) validate.Outcome { return validate.Outcome{Value: v} }
	refused, unknown := validate.Outcome{Refused: true}, validate.Outcome{Unknown: true}
	elsewhere := validate.Call{Object: "p", Kind: validate.Read}
	for name, c := range map[string]struct {
		ok    bool
		steps []step
	}{
		"fresh read":                    {true, []step{{0, 1, set(1), at(1)}, {2, 3, read, at(1)}}},
		"stale read":                    {false, []step{{0, 1, set(1), at(1)}, {2, 3, read, at(0)}}},
		"a read during the write":       {true, []step{{0, 2, set(1), at(1)}, {1, 3, read, at(0)}}},
		"another object":                {true, []step{{0, 1, set(1), at(1)}, {2, 3, elsewhere, at(0)}}},
		"value from nowhere":            {false, []step{{0, 1, read, at(7)}}},
		"two reads go back":             {false, []step{{0, 9, set(1), at(1)}, {1, 2, read, at(1)}, {3, 4, read, at(0)}}},
		"lost write":                    {false, []step{{0, 1, set(1), at(1)}, {2, 3, set(2), at(2)}, {4, 5, read, at(1)}}},
		"unknown write happens late":    {true, []step{{0, 1, set(1), unknown}, {2, 3, read, at(0)}, {4, 5, read, at(1)}}},
		"unknown write never happens":   {true, []step{{0, 1, set(1), unknown}, {2, 3, read, at(0)}}},
		"unknown write happens twice":   {false, []step{{0, 1, set(1), unknown}, {2, 3, read, at(1)}, {4, 5, set(2), at(2)}, {6, 7, read, at(1)}}},
		"taken from what is not there":  {false, []step{{0, 1, set(1), at(1)}, {2, 3, compareAndSet(0, 3), at(3)}}},
		"refused though it was right":   {false, []step{{0, 1, set(1), at(1)}, {2, 3, compareAndSet(1, 3), refused}}},
		"refused, and written":          {false, []step{{0, 1, compareAndSet(5, 3), refused}, {2, 3, read, at(3)}}},
		"two take the same one":         {false, []step{{0, 2, compareAndSet(0, 1), at(1)}, {1, 3, compareAndSet(0, 2), at(2)}}},
		"an unknown one may have taken": {true, []step{{0, 1, compareAndSet(0, 1), unknown}, {2, 3, compareAndSet(0, 2), refused}}},
		"unknown read says nothing":     {true, []step{{0, 1, set(1), at(1)}, {2, 3, read, unknown}}},
	} {
		t.Run(name, func(t *testing.T) {
			err := history(c.steps...).Linearizable(time.Minute)
			if c.ok {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "Illegal")
			}
		})
	}
}

func TestWritesThatAreNotInOrder(t *testing.T) {
	w := new(validate.Writes)
	for _, name := range []string{"a1", "a2", "a3", "b1"} {
		w.Note(name, validate.Done)
	}
	w.Note("a4", validate.Unknown)
	place := func(name string) (client, number int, ok bool) {
		return int(name[0]), int(name[1] - '0'), len(name) == 2
	}
	for _, right := range [][]string{nil, {"a1", "b1", "a2", "a3", "a4"}, {"a4", "a1", "a2", "a3"}, {"a2", "a1 by somebody else"}} {
		require.NoError(t, w.InOrder(right, place), right)
	}
	require.ErrorContains(t, w.InOrder([]string{"a1", "a3", "b1", "a2"}, place), "a2 is behind number 3 of its client")
	require.Error(t, w.InOrder([]string{"a1", "a1"}, place))
}

func TestWritesThatAreNotStoredOnce(t *testing.T) {
	w := new(validate.Writes)
	w.Note("done", validate.Done)
	w.Note("failed", validate.Failed)
	w.Note("unknown", validate.Unknown)
	w.Note("tried again", validate.Unknown)
	w.Note("tried again", validate.Done)
	require.Equal(t, 2, w.Done())
	require.NoError(t, w.Stored(map[string]int{"done": 1, "tried again": 1}))
	require.NoError(t, w.Stored(map[string]int{"done": 1, "tried again": 1, "unknown": 1}))
	for want, found := range map[string]map[string]int{
		"done was acknowledged and is not there":        {"tried again": 1},
		"tried again was acknowledged and is not there": {"done": 1},
		"done is there 2 times":                         {"done": 2, "tried again": 1},
		"unknown is there 2 times":                      {"done": 1, "tried again": 1, "unknown": 2},
		"failed was refused and is there":               {"done": 1, "tried again": 1, "failed": 1},
		"stray is there, and nobody wrote it":           {"done": 1, "tried again": 1, "stray": 1},
	} {
		require.ErrorContains(t, w.Stored(found), want)
	}
	require.Equal(t, map[string]bool{"done": true, "tried again": true}, w.Acknowledged())
	w.Doubt(map[string]bool{"done": true})
	require.NoError(t, w.Stored(map[string]int{"done": 1}))
	require.ErrorContains(t, w.Stored(nil), "done was acknowledged and is not there")
	w.Doubt(nil)
	require.NoError(t, w.Stored(nil))
	require.ErrorContains(t, w.Stored(map[string]int{"done": 2}), "done is there 2 times")
	require.ErrorContains(t, w.Stored(map[string]int{"failed": 1}), "failed was refused")
}

func add(id uint64, key, data string) validate.Event {
	return validate.Event{ID: id, Type: validate.Added, Key: key, Data: data}
}

func update(id uint64, key, data string) validate.Event {
	return validate.Event{ID: id, Type: validate.Updated, Key: key, Data: data}
}

func remove(id uint64, key string) validate.Event {
	return validate.Event{ID: id, Type: validate.Removed, Key: key}
}

// happened is what happens to the object of these tests.
func happened(t *testing.T) *validate.Events {
	all := new(validate.Events)
	for _, e := range []validate.Event{add(1, "a", "1"), add(2, "b", "2"), update(3, "a", "3"), remove(4, "b"), update(5, "a", "5")} {
		require.NoError(t, all.Add(e))
	}
	return all
}

func hear(t *validate.Transcript, events ...validate.Event) *validate.Transcript {
	for _, e := range events {
		t.Heard(e)
	}
	return t
}

func TestSubscribersWhoHeardEverything(t *testing.T) {
	all := happened(t)
	require.NoError(t, all.Through(1, 5))
	final := map[string]string{"a": "5"}

	live := hear(new(validate.Transcript), add(1, "a", "1"), add(2, "b", "2"), update(3, "a", "3"), remove(4, "b"), update(5, "a", "5"))
	require.NoError(t, live.Check(all))
	require.NoError(t, live.EndsIn(5, final))

	replayed := hear(new(validate.Transcript), remove(4, "b"), add(5, "a", "5"))
	replayed.Established(5)
	require.NoError(t, replayed.Check(all))
	require.NoError(t, replayed.EndsIn(5, final))
	require.Equal(t, 1, replayed.Times())

	again := hear(new(validate.Transcript), add(1, "a", "1"), add(2, "b", "2")) // and on from there, on another node
	require.EqualValues(t, 2, again.Last())
	hear(again, remove(4, "b"), update(5, "a", "5")).Established(5)
	require.NoError(t, again.Check(all))
	require.NoError(t, again.EndsIn(5, final))

	cut := hear(new(validate.Transcript), remove(4, "b")) // in the middle of a replay
	cut.Returned()
	hear(cut, update(5, "a", "5")).Established(5)
	require.NoError(t, cut.Check(all))
	require.NoError(t, cut.EndsIn(5, final))

	opened := hear(new(validate.Transcript), add(1, "a", "1"))
	opened.Open(4, map[string]string{"a": "3"})
	opened.Established(4)
	hear(opened, update(5, "a", "5"))
	require.NoError(t, opened.Check(all))
	require.NoError(t, opened.EndsIn(5, final))
	count := 0
	require.NoError(t, opened.All(func(validate.Event) error { count++; return nil }))
	require.Equal(t, 2, count)
}

func TestSubscribersWhoDidNot(t *testing.T) {
	for want, tell := range map[string]func(*validate.Transcript){
		"event 1 behind event 2":                  func(s *validate.Transcript) { hear(s, add(2, "b", "2"), add(1, "a", "1")) },
		"event 1 behind event 1":                  func(s *validate.Transcript) { hear(s, add(1, "a", "1"), update(1, "a", "1")) },
		"Key:b Data:2} was missed":                func(s *validate.Transcript) { hear(s, add(1, "a", "1"), update(3, "a", "3")) },
		"Type:removed Key:b Data:} was missed":    func(s *validate.Transcript) { hear(s, add(5, "a", "5")) },
		"heard {ID:1 Type:added Key:a Data:2}":    func(s *validate.Transcript) { hear(s, add(1, "a", "2")) },
		"heard {ID:6 Type:added Key:c Data:6}":    func(s *validate.Transcript) { hear(s, remove(4, "b"), add(5, "a", "5"), add(6, "c", "6")) },
		`event 3 adds "a", which is there`:        func(s *validate.Transcript) { hear(s, add(1, "a", "1"), add(2, "b", "2"), add(3, "a", "3")) },
		`event 1 updates "a", which is not there`: func(s *validate.Transcript) { hear(s, update(1, "a", "1")) },
		`event 5 updates "a", which is not there`: func(s *validate.Transcript) {
			s.Returned()
			hear(s, remove(4, "b")).Established(4)
			hear(s, update(5, "a", "5"))
		},
		"established at event 3, and the last one told":   func(s *validate.Transcript) { hear(s, add(1, "a", "1")); s.Established(3) },
		"opened as of event 1 by a subscriber that knows": func(s *validate.Transcript) { hear(s, add(1, "a", "1"), add(2, "b", "2")); s.Open(1, nil) },
		"Data:3} was missed": func(s *validate.Transcript) {
			s.Open(2, map[string]string{"a": "1", "b": "2"})
			hear(s, remove(4, "b"))
		},
		"told of an object of somebody else":              func(s *validate.Transcript) { s.Fault("told of an object of somebody else") },
		"Key:a Data:1} was missed between events 0 and 2": func(s *validate.Transcript) { hear(s, add(2, "b", "2")); s.Open(4, map[string]string{"a": "3"}) },
		"event 2 behind event 4":                          func(s *validate.Transcript) { hear(s, remove(4, "b")); hear(s, add(2, "b", "2")) },
	} {
		t.Run(want, func(t *testing.T) {
			s := new(validate.Transcript)
			tell(s)
			require.ErrorContains(t, s.Check(happened(t)), want)
		})
	}
}

func TestCopiesThatAreNotTheObject(t *testing.T) {
	s := hear(new(validate.Transcript), add(1, "a", "1"), add(2, "b", "2"))
	require.ErrorContains(t, s.EndsIn(3, map[string]string{"a": "1", "b": "2"}), "it knows event 2")
	require.ErrorContains(t, s.EndsIn(2, map[string]string{"a": "9", "b": "2"}), `"a" is "9", and "1" in its copy`)
	require.ErrorContains(t, s.EndsIn(2, map[string]string{"a": "1"}), `"b" is only in its copy`)
	require.ErrorContains(t, s.EndsIn(2, map[string]string{"a": "1", "b": "2", "c": "3"}), `"c" is "3"`)
}

func TestEventsThatNodesDoNotAgreeOn(t *testing.T) {
	all := happened(t)
	require.NoError(t, all.Add(add(3, "a", "3")), "a replay may call an update an addition")
	require.ErrorContains(t, all.Add(update(3, "a", "4")), "event 3 is told as")
	require.ErrorContains(t, all.Add(remove(3, "a")), "event 3 is told as")
	require.ErrorContains(t, all.Through(1, 6), "nobody told of event 6")
}

func TestStoresThatDiffer(t *testing.T) {
	a, b := validate.Digest{Index: 7, Hash: "a"}, validate.Digest{Index: 7, Hash: "b"}
	require.NoError(t, validate.Digests(map[string]validate.Digest{"n1": a, "n2": a}))
	require.ErrorContains(t, validate.Digests(map[string]validate.Digest{"n1": a, "n2": a, "n3": b}), "the stores differ")
	require.ErrorContains(t, validate.Digests(map[string]validate.Digest{"n1": a, "n2": {Index: 8, Hash: "a"}}), "cannot be compared")
	require.ErrorContains(t, validate.Digests(map[string]validate.Digest{"n1": a}), "cannot be compared")
}
