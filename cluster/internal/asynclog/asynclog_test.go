package asynclog

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// gated is a store whose next append waits when it is told to, or which fails as a
// guarded disk does.
type gated struct {
	*raft.InmemStore
	mu    sync.Mutex
	shut  chan struct{} // what the next append waits for, if it is there
	fails bool
	sizes []int // of what was appended together
}

func newGated() *gated { return &gated{InmemStore: raft.NewInmemStore()} }

// hold has the next append wait until the function that it returns is called.
func (g *gated) hold() (goOn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	shut := make(chan struct{})
	g.shut = shut
	return sync.OnceFunc(func() { close(shut) })
}

func (g *gated) fail() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fails = true
}

// StoreLogs implements raft.LogStore.
func (g *gated) StoreLogs(entries []*raft.Log) error {
	g.mu.Lock()
	shut := g.shut
	g.shut = nil
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fails {
		runtime.Goexit()
	}
	g.sizes = append(g.sizes, len(entries))
	return g.InmemStore.StoreLogs(entries)
}

func entries(first, last uint64) (out []*raft.Log) {
	for index := first; index <= last; index++ {
		out = append(out, &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte{byte(index)}})
	}
	return out
}

func always() bool { return true }

func TestLeaderGoesOnWhileItsDiskWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newGated()
		l := New(disk)
		defer l.Close()
		require.NoError(t, l.StoreLogs(entries(1, 1)))
		l.Use(always)
		goOn := disk.hold()
		require.NoError(t, l.StoreLogs(entries(2, 4)))

		last, err := l.LastIndex()
		require.NoError(t, err)
		require.EqualValues(t, 4, last)
		for _, e := range entries(1, 4) {
			var got raft.Log
			require.NoError(t, l.GetLog(e.Index, &got))
			require.Equal(t, *e, got)
		}
		require.ErrorIs(t, l.GetLog(5, new(raft.Log)), raft.ErrLogNotFound)
		require.EqualValues(t, 1, l.Written(4))
		require.EqualValues(t, 1, l.Written(2))
		require.EqualValues(t, 1, l.Written(1))
		require.True(t, l.Wait(1), "which is written")

		var waited atomic.Bool
		go func() { waited.Store(l.Wait(2)) }()
		synctest.Wait()
		require.False(t, waited.Load(), "nothing counts before it is written")
		goOn()
		synctest.Wait()
		require.True(t, waited.Load())
		require.EqualValues(t, 4, l.Written(4))
		var got raft.Log
		require.NoError(t, disk.GetLog(4, &got))
	})
}

// What is stored waits for what was stored before.
func TestEverythingElseIsWrittenBehindTheBatch(t *testing.T) {
	configuration := []*raft.Log{{Index: 3, Term: 1, Type: raft.LogConfiguration}}
	mixed := append(entries(3, 3), &raft.Log{Index: 4, Term: 1, Type: raft.LogBarrier})
	for name, do := range map[string]func(*Log) error{
		"the next batch":  func(l *Log) error { return l.StoreLogs(entries(3, 4)) },
		"a configuration": func(l *Log) error { return l.StoreLogs(configuration) },
		"a barrier":       func(l *Log) error { return l.StoreLogs(mixed) },
		"a cut":           func(l *Log) error { return l.DeleteRange(1, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := newGated()
				l := New(disk)
				defer l.Close()
				l.Use(always)
				goOn := disk.hold()
				require.NoError(t, l.StoreLogs(entries(1, 2)))
				var done atomic.Bool
				go func() { done.Store(do(l) == nil) }()
				synctest.Wait()
				require.False(t, done.Load())
				goOn()
				synctest.Wait()
				require.True(t, done.Load())
			})
		})
	}
}

func TestOnlyLeadersCommandsAreWrittenInTheBackground(t *testing.T) {
	for name, c := range map[string]struct {
		leads   bool
		entries []*raft.Log
	}{
		"follower":      {false, entries(1, 2)},
		"configuration": {true, []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration}}},
		"noop":          {true, []*raft.Log{{Index: 1, Term: 1, Type: raft.LogNoop}}},
		"both":          {true, append(entries(1, 1), &raft.Log{Index: 2, Term: 1, Type: raft.LogNoop})},
	} {
		t.Run(name, func(t *testing.T) {
			disk := newGated()
			l := New(disk)
			defer l.Close()
			l.Use(func() bool { return c.leads })
			require.NoError(t, l.StoreLogs(c.entries))
			require.Equal(t, []int{len(c.entries)}, disk.sizes, "it is written when raft goes on")
		})
	}
}

// What a failed write was to bring never counts, and the disk decides what becomes
// of those who write.
func TestNothingCountsAfterFailedWrite(t *testing.T) {
	disk := newGated()
	l := New(disk)
	l.Use(always)
	require.NoError(t, l.StoreLogs(entries(1, 2)))
	require.True(t, l.Wait(2))
	disk.fail()
	require.NoError(t, l.StoreLogs(entries(3, 4)))
	require.False(t, l.Wait(4))
	require.True(t, l.Wait(2))
	require.EqualValues(t, 2, l.Written(4))
	ended := make(chan error, 1)
	go func() {
		err := errors.New("it ended")
		defer func() { ended <- err }()
		err = l.StoreLogs(entries(5, 5))
	}()
	require.EqualError(t, <-ended, "it ended")
	require.False(t, l.Wait(3), "for good")
	l.Close()
}
