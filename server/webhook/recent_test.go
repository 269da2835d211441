package webhook

import (
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
)

func TestHurriedDeliveryIsTriedNow(t *testing.T) {
	var failing atomic.Bool
	failing.Store(true)
	r := newReceiver(t, func(int, url.Values) int {
		if failing.Load() {
			return 500
		}
		return 204
	})
	clock := newClock() // stands still, so that no delivery falls due by itself
	n := fsmtest.New(nil)
	n.Must(&fsm.UpdateService{WebhookURL: &r.URL, WebhooksFromREST: new(true)})
	s := New(Config{Node: n, Allow: loopback, Clock: clock.now})
	require.False(t, s.Hurry(1), "it does not run")
	run(t, s)
	sid := createDocument(n, 1)
	update(n, sid, 1)
	eventually(t, "the failure is stored", func() bool {
		d, found := firstDelivery(n)
		return found && d.Attempts == 1
	})
	failed := s.Recent()
	require.Len(t, failed, 1)
	require.Equal(t, "status 500", failed[0].Error)
	require.Equal(t, 1, failed[0].Number)

	failing.Store(false)
	require.True(t, s.Hurry(n.View().NewestDelivery()), "which waits for the first one")
	eventually(t, "both are delivered", func() bool { return n.View().WaitingDeliveries() == 0 })
	require.Len(t, s.Recent(), 3)
	require.Empty(t, s.Recent()[0].Error, "the latest is first")
}

func TestAttemptsAreBounded(t *testing.T) {
	var r recent
	for i := range maxRecent + 5 {
		r.add(Attempt{Number: i, At: time.Unix(int64(i), 0)})
	}
	s := &Sender{recent: recent{ring: r.ring, next: r.next}}
	require.Len(t, s.Recent(), maxRecent)
	require.Equal(t, maxRecent+4, s.Recent()[0].Number)
	require.Equal(t, 5, s.Recent()[maxRecent-1].Number)
}
