package fsm

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// A client may know what was acknowledged and lost: nothing that it was told is
// told again with another meaning, and it is told to open what it holds anew.
func TestRecoveredStateGivesNothingAgain(t *testing.T) {
	s := filled(t)
	l := s.create(objects.KindList, "l")
	s.push(l, `1`)
	d, _ := s.fsm.View().Object(s.service().Num, objects.KindDocument, Ref{Name: "d"})
	m, _ := s.fsm.View().Object(s.service().Num, objects.KindMap, Ref{Name: "m"})
	item, _ := s.fsm.View().Item(m, ItemKey{Key: "b"})
	bytesBefore, usage := s.fsm.View().Bytes(), s.fsm.View().ServiceBytes(s.service().Num)

	s.must(asREST, &Recover{ClusterID: "another", Key: KeyID{9}})
	v := s.fsm.View()
	require.Equal(t, "another", v.ClusterID())
	require.Equal(t, KeyID{9}, v.ClusterKey())
	require.Nil(t, v.KeyRotation(), "a change of the old cluster's key is over")
	require.Equal(t, bytesBefore, v.Bytes())
	require.Equal(t, usage, v.ServiceBytes(s.service().Num))
	require.Zero(t, v.TombstoneBytes())
	for _, old := range []*objects.Object{l, d, m} {
		now, ok := v.ObjectBySID(old.SID)
		require.True(t, ok)
		for _, known := range []objects.EventID{0, old.EventID, old.EventID + 1, old.EventID + 1000} {
			_, why := v.Replay(now, known, known, 10)
			require.ErrorIs(t, why, objects.ErrHistory, "%v at %d", old.Kind(), known)
		}
		events, why := v.Replay(now, now.EventID, now.EventID, 10)
		require.Nil(t, why)
		require.Empty(t, events, "who opened it after the recovery goes on")
	}
	moved, _ := v.Item(m, ItemKey{Key: "b"})
	require.Greater(t, moved.EventID, m.EventID+1000, "a client that knows a later change of the item, or its removal, takes this one for newer")
	require.Equal(t, moved.EventID-item.EventID, moved.Added-item.Added)
	require.Equal(t, v.items.Len(), v.changes.Len(), "in either order there are the same items")
	require.Greater(t, s.push(l, `2`).Item.Index, uint64(1000))
	r := s.do(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "b"}, Mode: UpdateItem, Data: []byte(`3`),
		Match: objects.Precondition{Kind: objects.MatchRevision, Revision: item.Revision}})
	require.ErrorIs(t, r.Err, objects.ErrMapItemMismatch)
	before := v.ClusterKey()
	s.must(asREST, &Recover{ClusterID: "another", Key: KeyID{8}})
	require.Equal(t, before, s.fsm.View().ClusterKey(), "it happens once")

	b := snapshotBytes(t, s.fsm)
	back := New(Config{})
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(b))))
	require.Equal(t, b, snapshotBytes(t, back))
	require.Equal(t, s.fsm.View().Bytes(), back.View().Bytes())
}

// From one state clusters may begin at several times. What each gives within the
// time that it had is given by none of the later ones.
func TestClustersFromOneStateDoNotMeet(t *testing.T) {
	s := filled(t)
	state := snapshotBytes(t, s.fsm)
	begin := func(cluster string, after int64) (*store, *objects.Object) {
		from := &store{t: t, fsm: New(Config{}), time: s.time, index: s.index, ids: s.ids + 1000}
		require.NoError(t, from.fsm.Restore(io.NopCloser(bytes.NewReader(state))))
		from.must(asREST, &Recover{ClusterID: cluster, Key: KeyID{9}, Gap: GapAfter(after)})
		m, ok := from.fsm.View().Object(from.service().Num, objects.KindMap, Ref{Name: "m"})
		require.True(t, ok)
		return from, m
	}
	var told objects.EventID // the greatest one that any cluster before gave
	for _, after := range []int64{0, 1, 2, 1000, 365 * 24 * 60 * 60 * 1000} {
		next, m := begin(fmt.Sprint("at ", after), after)
		require.Greater(t, m.EventID, told, "%d ms after", after)
		_, why := next.fsm.View().Replay(m, told, told, 10)
		require.ErrorIs(t, why, objects.ErrHistory)
		for range gapPerMilli - 1 { // in a millisecond
			next.put(m, "b", `1`)
		}
		m, _ = next.fsm.View().ObjectBySID(m.SID)
		told = m.EventID
	}
	_, m := begin("after a wrong clock", -1)
	require.GreaterOrEqual(t, uint64(m.EventID), uint64(leastGap))
	require.Less(t, GapAfter(285*365*24*60*60*1000), uint64(1)<<53, "clients count in floating point")
}
