package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/bounds"
	"lockstep/server/limits"
)

func TestFullStateRefusesGrowthOnly(t *testing.T) {
	for name, bound := range map[string]struct {
		space space
		want  *objects.Error
	}{
		"state":   {space{state: 200_000}, objects.ErrStateFull},
		"service": {space{service: 200_000}, objects.ErrServiceFull},
	} {
		t.Run(name, func(t *testing.T) {
			n := fsmtest.New(nil)
			a := admission{limits: limits.New(limits.Off(), time.Now), space: bound.space, room: new(diskRoom)}
			m := fsm.Ref{SID: objects.NewSID(objects.KindMap, [16]byte{2})}
			command := func(op fsm.Op) *fsm.Command {
				return &fsm.Command{ID: commandid.New(), Service: fsmtest.Service, Op: op}
			}
			do := func(c *fsm.Command) *objects.Error {
				_, known := n.FSM().Lookup(c.ID)
				if r := a.admit(n.View(), c, known); r != nil {
					return r.Err
				}
				r, err := n.Propose(t.Context(), c)
				require.NoError(t, err)
				return r.Err
			}
			put := func(key string, size int) *fsm.Command {
				return command(&fsm.WriteItem{Kind: objects.KindMap, Object: m, Item: fsm.ItemKey{Key: key}, Mode: fsm.PutItem, Data: make([]byte, size)})
			}
			require.Nil(t, do(command(&fsm.CreateObject{SID: m.SID})))
			var last *fsm.Command
			items := 0
			for ; items < 1000; items++ {
				c := put(fmt.Sprint(items), 1000)
				if refused := do(c); refused != nil {
					require.ErrorIs(t, refused, bound.want)
					break
				}
				last = c
			}
			require.Equal(t, name == "state", bound.space.note(n.View()) != "", "of one service that is full, the operator is not told")
			require.Greater(t, items, 100)
			require.Less(t, items, 200)
			require.ErrorIs(t, do(command(&fsm.CreateObject{SID: objects.NewSID(objects.KindList, [16]byte{3}), Data: make([]byte, 2000)})), bound.want)
			require.Nil(t, do(last), "the repetition of a write that was made")
			require.Nil(t, do(put("1", 500)), "a write that shrinks")
			require.Nil(t, do(put("1", 500)), "one that neither grows nor shrinks")
			for key := range 10 {
				require.Nil(t, do(command(&fsm.RemoveItem{Kind: objects.KindMap, Object: m, Item: fsm.ItemKey{Key: fmt.Sprint(key)}})))
			}
			require.Nil(t, do(command(&fsm.RemoveObject{Kind: objects.KindMap, Object: m})))
			n.Expire()
			require.Nil(t, do(command(&fsm.CreateObject{SID: m.SID})), "there is space again")
			require.Empty(t, bound.space.note(n.View()))
		})
	}
}

func TestDefaultSpaceIsAShareOfTheMemory(t *testing.T) {
	s := newSpace(bounds.Bounds{}.WithDefaults())
	require.Greater(t, s.state, int64(64<<20))
	require.LessOrEqual(t, s.service, int64(0))
	require.EqualValues(t, 1<<30, newSpace(bounds.Bounds{StateBytes: 1 << 30}).state)
	require.EqualValues(t, -1, newSpace(bounds.Bounds{StateBytes: -1}).state)
}
