package hub_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// subscriber keeps what it is told.
type subscriber struct {
	mu      sync.Mutex
	told    []objects.EventID
	frames  [][]byte
	lost    int
	notices []objects.EventType
}

func (s *subscriber) Tell(e *objects.Event, frame func() []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, e.ID)
	s.frames = append(s.frames, frame())
}

func (s *subscriber) Lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost++
}

func (s *subscriber) Notice(e *objects.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = append(s.notices, e.Type)
}

func (s *subscriber) await(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return condition()
	}, 20*time.Second, time.Millisecond)
}

type rig struct {
	node    *fsmtest.Node
	hub     *hub.Hub
	run     func()
	mu      sync.Mutex
	encoded int
}

func start(t *testing.T) *rig {
	r := &rig{node: fsmtest.New(nil)}
	r.hub = hub.New(r.node.FSM().Feed(), func(e *objects.Event) []byte {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.encoded++
		return []byte{byte(e.ID)}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	r.run = func() { work.Go(func() { r.hub.Run(ctx) }) }
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	return r
}

func (r *rig) document() objects.SID {
	return r.node.Must(&fsm.CreateObject{SID: objects.NewSID(objects.KindDocument, fsm.NewID()), Data: []byte("{}")}).Object.SID
}

func (r *rig) write(sid objects.SID) {
	r.node.Must(&fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: []byte("1")})
}

func TestSubscribersGetTheSameBytesMadeOnce(t *testing.T) {
	r := start(t)
	r.run()
	d, other := r.document(), r.document()
	a, b := &subscriber{}, &subscriber{}
	r.hub.Follow(a, d)
	r.hub.Follow(b, d)
	r.hub.Follow(b, d) // as often as one likes
	r.write(other)
	r.write(d)
	r.write(d)
	for _, s := range []*subscriber{a, b} {
		s.await(t, func() bool { return len(s.told) == 2 })
		require.Equal(t, []objects.EventID{1, 2}, s.told)
	}
	require.Same(t, &a.frames[0][0], &b.frames[0][0])
	require.Equal(t, 2, r.encoded, "nothing is encoded that nobody follows")
}

func TestCreationIsNotTold(t *testing.T) {
	r := start(t)
	d := r.document()
	s := &subscriber{}
	r.hub.Follow(s, d) // before the hub has come to the creation
	r.run()
	r.write(d)
	s.await(t, func() bool { return len(s.told) > 0 })
	require.Equal(t, []objects.EventID{1}, s.told)
}

func TestUnfollow(t *testing.T) {
	r := start(t)
	r.run()
	d := r.document()
	a, b := &subscriber{}, &subscriber{}
	r.hub.Follow(a, d)
	r.hub.Follow(b, d)
	require.Equal(t, 1, r.hub.Topics())
	r.hub.Unfollow(a, d)
	r.hub.Unfollow(a, d)
	r.write(d)
	b.await(t, func() bool { return len(b.told) == 1 })
	require.Empty(t, a.told)
	r.hub.Unfollow(b, d)
	require.Zero(t, r.hub.Topics())
}

func TestEventsBetweenNewAndRunAreTold(t *testing.T) {
	r := start(t)
	d := r.document()
	s := &subscriber{}
	r.hub.Follow(s, d)
	r.write(d)
	r.run()
	s.await(t, func() bool { return len(s.told) == 1 })
}

func TestNoticesGoToAllWhoJoined(t *testing.T) {
	r := start(t)
	r.run()
	joined, left := &subscriber{}, &subscriber{}
	r.hub.Join(joined)
	r.hub.Join(left)
	r.hub.Leave(left)
	r.node.Must(&fsm.UpdateService{ACLEnabled: new(true)})
	r.node.Must(&fsm.RevokeKey{SID: fsmtest.KeySID})
	joined.await(t, func() bool { return len(joined.notices) == 2 })
	require.Equal(t, []objects.EventType{objects.ServiceChanged, objects.KeyRevoked}, joined.notices)
	require.Empty(t, left.notices)
	require.Empty(t, joined.told)
}

func TestOvertakenHubTellsThatEventsWereLost(t *testing.T) {
	r := start(t)
	d := r.document()
	s := &subscriber{}
	r.hub.Join(s)
	r.hub.Follow(s, d)
	for range 5000 { // more than the feed holds, before anyone reads
		r.write(d)
	}
	r.run()
	s.await(t, func() bool { return s.lost == 1 })
	r.write(d)
	s.await(t, func() bool { return len(s.told) == 1 })
	require.Equal(t, objects.EventID(5001), s.told[0])
}

func TestSubscribersComeAndGoWhileEventsAreTold(t *testing.T) {
	r := start(t)
	r.run()
	d := r.document()
	stays := &subscriber{}
	r.hub.Follow(stays, d)
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 100 {
				s := &subscriber{}
				r.hub.Join(s)
				r.hub.Follow(s, d)
				r.hub.Unfollow(s, d)
				r.hub.Leave(s)
			}
		})
	}
	for range 200 {
		r.write(d)
	}
	work.Wait()
	stays.await(t, func() bool { return len(stays.told) == 200 })
	for i, id := range stays.told {
		require.Equal(t, objects.EventID(i+1), id)
	}
	require.Equal(t, 1, r.hub.Topics())
}
