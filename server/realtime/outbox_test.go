package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
)

func newOutbox(length, bytes int) *outbox {
	o := &outbox{}
	o.init(length, bytes)
	return o
}

func taken(o *outbox) (texts []string, last bool) {
	frames, last := o.take(nil)
	for _, f := range frames {
		texts = append(texts, string(f))
	}
	return texts, last
}

func TestOutboxBounds(t *testing.T) {
	o := newOutbox(2, 10)
	require.True(t, o.offer([]byte("12345")))
	require.False(t, o.offer([]byte("123456")), "bytes")
	require.True(t, o.offer([]byte("1")))
	require.False(t, o.offer([]byte("1")), "frames")
	o.push([]byte("answer"))
	texts, last := taken(o)
	require.Equal(t, []string{"12345", "1", "answer"}, texts)
	require.False(t, last)
	require.True(t, o.offer([]byte("1234567890")), "there is room again")
}

func TestOutboxDropsStreamMessagesOldestFirst(t *testing.T) {
	o := newOutbox(3, 100)
	require.Zero(t, o.offerLossy([]byte("m1")))
	require.True(t, o.offer([]byte("event")))
	require.Zero(t, o.offerLossy([]byte("m2")))
	require.Equal(t, 1, o.offerLossy([]byte("m3")))
	require.False(t, o.offer([]byte("event")), "events do not push messages out")
	texts, _ := taken(o)
	require.Equal(t, []string{"event", "m2", "m3"}, texts)

	for range 3 {
		o.push([]byte("answer"))
	}
	require.Equal(t, 1, o.offerLossy([]byte("m4")), "nothing gives way")
	texts, _ = taken(o)
	require.Len(t, texts, 3)
}

func TestOutboxTakesNothingBehindTheLastFrame(t *testing.T) {
	o := newOutbox(2, 10)
	o.push([]byte("a"))
	o.finish([]byte("close"))
	o.finish([]byte("again"))
	o.push([]byte("b"))
	require.True(t, o.offer([]byte("c")))
	require.Zero(t, o.offerLossy([]byte("d")))
	texts, last := taken(o)
	require.Equal(t, []string{"a", "close"}, texts)
	require.True(t, last)
}

func TestOutboxRoom(t *testing.T) {
	for _, free := range map[string]func(*outbox){
		"taken":  func(o *outbox) { o.take(nil) },
		"closed": (*outbox).close,
		"ended":  func(o *outbox) { o.finish(nil) },
	} {
		o := newOutbox(1, 10)
		o.room(t.Context())
		o.push([]byte("x"))
		done := make(chan struct{})
		go func() { o.room(t.Context()); close(done) }()
		eventually(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.taken != nil })
		free(o)
		<-done
	}
}

func TestEchoIsBoundedAndKeepsWhatIsUnderWay(t *testing.T) {
	e := newEcho()
	first := fsm.NewID()
	e.sending(first, objects.SID{})
	for range 2 * echoLength {
		id := fsm.NewID()
		e.sending(id, objects.SID{})
		e.answered(id, objects.SID{})
	}
	require.NotNil(t, e.pending(first))
	require.Equal(t, echoLength, len(e.sent))
	require.Equal(t, echoLength, len(e.order))
	e.answered(first, objects.SID{})
	require.Nil(t, e.pending(first))
	require.True(t, e.own(first))
	require.Empty(t, e.writing)

	for i := range objects.EventID(2 * echoLength) {
		e.removing(objects.SID{1}, i)
	}
	require.Equal(t, echoLength, len(e.removed))
}
