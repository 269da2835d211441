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
