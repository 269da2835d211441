package fsm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

func transaction(ops ...Op) *Transact {
	t := new(Transact)
	for _, op := range ops {
		t.Parts = append(t.Parts, Part{op})
	}
	return t
}

func TestTransactionSeesWhatItMade(t *testing.T) {
	s := newStore(t)
	list, cursor := s.create(objects.KindList, "log"), s.fsm.Feed().Follow()
	sid := s.sid(objects.KindMap)
	r := s.must(asREST, transaction(
		&CreateObject{SID: sid, UniqueName: "scores"},
		&WriteItem{Kind: objects.KindMap, Object: Ref{Name: "scores"}, Item: ItemKey{Key: "a"}, Mode: AddItem, Data: []byte(`{"n":1}`)},
		&WriteItem{Kind: objects.KindMap, Object: Ref{SID: sid}, Item: ItemKey{Key: "a"}, Mode: UpdateItem, Data: []byte(`{"n":2}`), Match: objects.Precondition{Kind: objects.MatchRevision, Revision: 1}},
		&WriteItem{Kind: objects.KindList, Object: Ref{SID: list.SID}, Mode: AppendItem, Data: []byte(`{}`)},
	))
	require.Len(t, r.Parts, 4)
	require.Equal(t, sid, r.Parts[0].Object.SID)
	require.EqualValues(t, 2, r.Parts[2].Item.Revision)
	batch, err := cursor.Next(t.Context())
	require.NoError(t, err)
	var told []objects.EventType
	for _, e := range batch.Events {
		told = append(told, e.Type)
	}
	require.Equal(t, []objects.EventType{objects.ObjectCreated, objects.ItemAdded, objects.ItemUpdated, objects.ItemAdded}, told)
}

// A refused part leaves nothing of the parts before it, in no table and in no event.
func TestRefusedTransactionChangesNothing(t *testing.T) {
	s := newStore(t)
	m, cursor := s.create(objects.KindMap, "m"), s.fsm.Feed().Follow()
	s.put(m, "kept", `{"n":1}`)
	_, err := cursor.Next(t.Context())
	require.NoError(t, err)
	before := describe(s.fsm.View())
	sum := s.fsm.View().meta.Sum
	command := s.command(asREST, transaction(
		&WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "new"}, Mode: PutItem, Data: []byte(`{}`)},
		&RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "kept"}},
		&CreateObject{SID: s.sid(objects.KindDocument), UniqueName: "d", Data: []byte(`{}`), TTL: 10},
		&RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "missing"}},
	))
	for range 2 {
		r := s.send(command)[0]
		require.ErrorIs(t, r.Err, objects.ErrMapItemGone)
		require.EqualValues(t, 4, r.RefusedPart)
		require.Equal(t, before, describe(s.fsm.View()))
		require.Equal(t, sum, s.fsm.View().meta.Sum)
	}
	s.put(m, "after", `{}`)
	batch, err := cursor.Next(t.Context())
	require.NoError(t, err)
	for len(batch.Events) == 0 {
		batch, err = cursor.Next(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, "after", batch.Events[0].Item.Key)
}

func TestRepeatedTransactionHappensOnce(t *testing.T) {
	s := newStore(t)
	list := s.create(objects.KindList, "log")
	push := &WriteItem{Kind: objects.KindList, Object: Ref{SID: list.SID}, Mode: AppendItem, Data: []byte(`{}`)}
	command := s.command(asREST, transaction(push, push))
	first, second := s.send(command)[0], s.send(command)[0]
	require.True(t, second.Repeated)
	require.Equal(t, first.Parts, second.Parts)
	require.EqualValues(t, 2, s.object(list).Items)
}

func TestTransactionIsBounded(t *testing.T) {
	s := newStore(t)
	require.ErrorIs(t, s.do(asREST, transaction()).Err, objects.ErrParameter)
	push := &WriteItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Mode: AppendItem, Data: []byte(`{}`)}
	many := transaction()
	for range MaxParts + 1 {
		many.Parts = append(many.Parts, Part{push})
	}
	require.ErrorIs(t, s.do(asREST, many).Err, objects.ErrParameter)
}

// What may not be part of a transaction is no command at all.
func TestTransactionOfOtherOperationsIsNoCommand(t *testing.T) {
	s := newStore(t)
	for _, row := range operations {
		op := full(row.new())
		b, err := s.command(asREST, transaction(op)).Encode()
		require.NoError(t, err)
		_, err = DecodeCommand(b)
		if MayBePart(op) {
			require.NoError(t, err, opName(op))
		} else {
			require.ErrorIs(t, err, ErrCommand, opName(op))
		}
	}
}

// A transaction is like its operations one after the other, or like nothing.
func TestTransactionIsAllOrNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		together, alone := newStore(t), newStore(t)
		for _, s := range []*store{together, alone} {
			s.create(objects.KindMap, "m")
			s.create(objects.KindList, "l")
		}
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Op {
			key, data := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"), []byte(fmt.Sprintf(`{"n":%d}`, rapid.IntRange(0, 9).Draw(t, "n")))
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				return &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}, Mode: AddItem, Data: data}
			case 1:
				return &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}, Mode: PutItem, Data: data}
			case 2:
				return &RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}}
			case 3:
				return &UpdateObject{Kind: objects.KindList, Object: Ref{Name: "l"}, Data: data}
			}
			return &WriteItem{Kind: objects.KindList, Object: Ref{Name: "l"}, Mode: AppendItem, Data: data}
		}), 1, 8).Draw(t, "operations")

		empty := describe(together.fsm.View())
		r := together.do(asREST, transaction(ops...))
		for i, op := range ops {
			one := alone.do(asREST, op)
			if one.Err != nil {
				require.Equal(t, one.Err, r.Err)
				require.EqualValues(t, i+1, r.RefusedPart)
				require.Equal(t, empty, describe(together.fsm.View()))
				return
			}
			if r.Err == nil {
				one.Index = 0
				require.Equal(t, one, &r.Parts[i])
			}
		}
		require.NoError(t, asError(r.Err))
		require.Equal(t, describe(alone.fsm.View()), describe(together.fsm.View()))
	})
}

func asError(e *objects.Error) error {
	if e == nil {
		return nil
	}
	return e
}
