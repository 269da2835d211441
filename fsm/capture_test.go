package fsm

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// A capture is the state right after one log entry, whatever is applied meanwhile.
func TestCaptureIsOneState(t *testing.T) {
	s := newStore(t)
	m := s.create(objects.KindMap, "m")
	remembered := func(f *FSM) (n int) {
		for _, w := range f.Windows() {
			n += w.Commands
		}
		return n
	}
	without := int(s.index) - remembered(s.fsm) // entries of which nothing is remembered
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := range 100_000 { // fewer than the window has room for
			select {
			case <-stop:
				return
			default:
				c := s.command(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: fmt.Sprint(i % 50)}, Mode: PutItem, Data: []byte(`1`)})
				s.fsm.Apply(s.entry(c))
			}
		}
	}()
	for range 50 {
		c := s.fsm.Capture()
		var b bytes.Buffer
		require.NoError(t, c.Write(&b))
		back := New(Config{})
		require.NoError(t, back.Restore(io.NopCloser(&b)))
		require.Equal(t, c.View().Index(), back.View().Index())
		require.EqualValues(t, c.View().Index(), without+remembered(back), "what is remembered is of the same entry")
	}
	close(stop)
	<-done
}

// A published view is what it was, whichever tables are written to after it, and
// whether a transaction was undone in between.
func TestPublishedViewsNeverChange(t *testing.T) {
	s := filled(t)
	type known struct {
		view  *View
		bytes []byte
	}
	var all []known
	note := func() {
		var b bytes.Buffer
		require.NoError(t, writeSnapshot(&b, s.fsm.View(), nil))
		all = append(all, known{s.fsm.View(), b.Bytes()})
	}
	note()
	put := func(key, value string) Op {
		return &WriteItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: key}, Mode: PutItem, Data: []byte(value)}
	}
	for i := range 20 {
		op := put("b", fmt.Sprint(i))
		switch i % 4 {
		case 1:
			op = &Transact{Parts: []Part{{put("c", "1")}, {&RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "not there"}}}}}
		case 2:
			op = &SetPermission{Kind: objects.KindMap, Object: Ref{Name: "m"}, Identity: fmt.Sprint(i), Rights: objects.Read}
		case 3:
			op = &startTerm{} // writes to no table
		}
		s.fsm.Apply(s.entry(s.command(asREST, op)))
		note()
	}
	for i, k := range all {
		var b bytes.Buffer
		require.NoError(t, writeSnapshot(&b, k.view, nil), i)
		require.Equal(t, k.bytes, b.Bytes(), "view %d", i)
		require.NoError(t, k.view.Verify(), i)
	}
}
