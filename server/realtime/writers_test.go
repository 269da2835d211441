package realtime

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/hub"
)

// inLines starts writers in a bubble of virtual time. What they take appears in the
// channel.
func inLines(t *testing.T, test func(t *testing.T, w *writers, taken <-chan *session)) {
	synctest.Test(t, func(t *testing.T) {
		w := new(writers)
		w.init()
		taken := make(chan *session, 10*crowd)
		done := make(chan struct{})
		for range 2 {
			go func() {
				for s := w.take(); s != nil; s = w.take() {
					s.outgoing.sent = time.Now()
					taken <- s
				}
				done <- struct{}{}
			}()
		}
		test(t, w, taken)
		w.close()
		<-done
		<-done
	})
}

// writtenNow are sessions that were written to just now.
func writtenNow(count int) []*session {
	var out []*session
	for range count {
		s := new(session)
		s.outgoing.sent = time.Now()
		out = append(out, s)
	}
	return out
}

func TestEventsOfACrowdGather(t *testing.T) {
	inLines(t, func(t *testing.T, w *writers, taken <-chan *session) {
		begin := time.Now()
		for _, s := range writtenNow(2 * crowd) {
			w.add(s, hub.CanWait)
		}
		synctest.Wait()
		require.LessOrEqual(t, len(taken), crowd, "those of a crowd that were written to just now")
		for range 2 * crowd {
			<-taken
		}
		require.Equal(t, eventGap, time.Since(begin), "they wait for so long, and not once each")

		time.Sleep(eventGap)
		for range 2 * crowd {
			w.add(new(session), hub.CanWait)
		}
		synctest.Wait()
		require.Len(t, taken, 2*crowd, "those that were not written to for a while wait for nothing")
	})
}

func TestFewDoNotGather(t *testing.T) {
	inLines(t, func(t *testing.T, w *writers, taken <-chan *session) {
		for _, s := range writtenNow(crowd - 1) {
			w.add(s, hub.CanWait)
		}
		synctest.Wait()
		require.Len(t, taken, crowd-1)
	})
}

func TestEnoughEventsDoNotGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(writers)
		w.init()
		defer w.close()
		begin, all := time.Now(), writtenNow(3*crowd)
		w.hurry(all[0], hub.Enough) // it is about to be in line
		for _, s := range all {
			w.add(s, hub.CanWait)
		}
		w.hurry(all[1], hub.Enough)
		require.Same(t, all[0], w.take())
		require.Same(t, all[1], w.take())
		taken := make(chan *session)
		go func() { taken <- w.take() }()
		synctest.Wait()
		w.hurry(all[3], hub.Enough) // it keeps its place
		synctest.Wait()
		w.hurry(all[2], hub.Enough)
		require.Same(t, all[2], <-taken)
		require.Same(t, all[3], w.take())
		require.Equal(t, begin, time.Now())
		require.Same(t, all[4], w.take())
		require.Equal(t, eventGap, time.Since(begin), "the others gather")
	})
}

func TestAnswersDoNotWaitForCrowd(t *testing.T) {
	inLines(t, func(t *testing.T, w *writers, taken <-chan *session) {
		begin := time.Now()
		all := writtenNow(3*crowd + 2)
		late, hurried := all[0], all[len(all)-1]
		for _, s := range all[1:] {
			w.add(s, hub.CanWait)
		}
		synctest.Wait()
		for len(taken) > 0 {
			<-taken
		}
		w.add(late, hub.Prompt)
		require.Same(t, late, <-taken)
		w.hurry(hurried, hub.Prompt)
		require.Same(t, hurried, <-taken, "it leaves the line of those that gather")
		w.hurry(late, hub.Prompt) // it is in no line
		w.add(late, hub.CanWait)
		require.Same(t, late, <-taken, "it was hurried before it was in line")
		require.Equal(t, begin, time.Now())
		for range crowd {
			<-taken
		}
	})
}

// Sessions that always have more to write do not keep others waiting.
func TestLinesTakeTurns(t *testing.T) {
	w := new(writers)
	w.init()
	for range 10 {
		w.add(new(session), hub.Prompt)
		w.add(new(session), hub.CanWait)
	}
	for range 5 {
		w.take()
		w.take()
	}
	require.Equal(t, 5, w.prompt.length)
	require.Equal(t, 5, w.gathering.length)
}

func TestClosedWritersEmptyTheirLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(writers)
		w.init()
		for _, s := range writtenNow(2 * crowd) {
			w.add(s, hub.CanWait)
		}
		w.close()
		begin := time.Now()
		for range 2 * crowd {
			require.NotNil(t, w.take())
		}
		require.Nil(t, w.take())
		require.Equal(t, begin, time.Now())
	})
}
