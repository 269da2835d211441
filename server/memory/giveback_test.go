package memory

import (
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// looked returns a keeper that has looked at this often enough to find the process idle.
func looked(u usage) *keeper {
	k := newKeeper(u)
	for range idleLooks - 1 {
		k.due(time.Time{}, u)
	}
	return k
}

func TestMemoryIsGivenBackWhenMuchIsHeldForNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		u    usage
		due  bool
	}{
		{"as much as is alive", usage{alive: 20 * mib, held: 40 * mib}, true},
		{"hardly anything", usage{alive: 20 * mib, held: 27 * mib}, false},
		{"little beside what would be looked at", usage{alive: 400 * mib, held: 499 * mib}, false},
		{"a quarter of that", usage{alive: 400 * mib, held: 500 * mib}, true},
		{"far more than was alive when a state began to be read", usage{alive: 400 * mib, held: 4000 * mib}, true},
		{"less is held than was alive", usage{alive: 40 * mib, held: 20 * mib}, false},
		{"much has come, and was alive in the middle of it", usage{alive: 80 * mib, held: 85 * mib, allocated: 70 * mib}, true},
		{"little has come", usage{alive: 80 * mib, held: 85 * mib, allocated: 10 * mib}, false},
	} {
		require.Equal(t, c.due, looked(c.u).due(time.Time{}, c.u), c.name)
	}
}

func TestMemoryIsKeptUnderLoad(t *testing.T) {
	u := usage{alive: 20 * mib, held: 200 * mib}
	k := newKeeper(u)
	for range 100 {
		require.False(t, k.due(time.Time{}, u), "one look is none in a row")
		u.allocated += idleBytes
		require.False(t, k.due(time.Time{}, u))
	}
	require.False(t, k.due(time.Time{}, u))
	require.True(t, k.due(time.Time{}, u), "the load is over")
}

func TestWhatCouldNotBeGivenBackIsNotTriedAgain(t *testing.T) {
	began := time.Now()
	ended := began.Add(20 * time.Millisecond)
	u := usage{alive: 20 * mib, held: 60 * mib}
	k := looked(u)
	k.gaveBack(began, ended, u) // all of it stays, in pages that hold something
	later := ended.Add(time.Hour)
	for range 2 * idleLooks {
		require.False(t, k.due(later, u))
	}
	u.held += leastGain
	require.True(t, k.due(later, u), "this came since")
}

func TestWhatIsAliveIsNotLookedThroughAgain(t *testing.T) {
	began := time.Now()
	ended := began.Add(20 * time.Millisecond)
	u := usage{alive: 80 * mib, held: 84 * mib, allocated: 400 * mib}
	k := looked(u)
	require.True(t, k.due(began, u))
	k.gaveBack(began, ended, u) // all of it is needed
	later := ended.Add(time.Hour)
	for range 2 * idleLooks {
		require.False(t, k.due(later, u))
	}
}

func TestGivingBackTakesASmallShareOfTheTime(t *testing.T) {
	began := time.Now()
	ended := began.Add(time.Second)
	u := usage{alive: 20 * mib, held: 20 * mib}
	k := looked(u)
	k.gaveBack(began, ended, u)
	u.held = 200 * mib
	for range 2 * idleLooks {
		require.False(t, k.due(ended.Add(99*time.Second), u))
	}
	require.True(t, k.due(ended.Add(100*time.Second), u))
}

// garbage has the heap grow by what nobody has a use for, all of which the last collection
// finds alive.
func garbage() {
	var all [][]byte
	for range 64 {
		all = append(all, make([]byte, mib))
	}
	runtime.GC()
	runtime.KeepAlive(all)
}

func TestGarbageOfABurstGoesBackToTheSystem(t *testing.T) {
	read := reader()
	garbage()
	before := read()
	require.Greater(t, before.held, uint64(64*mib))
	stop := GiveBack(slog.Default())
	defer stop()
	require.Eventually(t, func() bool { return read().held < before.held-48*mib }, 30*time.Second, 10*time.Millisecond)
}

func TestGiveBackEndsWhenItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := GiveBack(slog.Default())
		time.Sleep(3 * lookEvery)
		stop() // a goroutine that goes on fails the test
	})
}

func TestWhatIsTooMuchIsLeftToTheRuntime(t *testing.T) {
	garbage()
	before := reader()()
	looks := 0
	u := collect(func() usage {
		looks++
		return usage{alive: mib, held: mib + mostGain + 1}
	})
	require.Equal(t, 1, looks)
	require.Greater(t, u.excess(), uint64(mostGain))
	require.Greater(t, reader()().held, before.held-48*mib, "it is still held")
}
