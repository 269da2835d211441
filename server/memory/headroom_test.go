package memory

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoomForGarbageIsASmallerPartOfMore(t *testing.T) {
	require.Equal(t, 100, percentFor(0))
	require.Equal(t, 100, percentFor(wholeRoom))
	last, room := uint64(100), uint64(wholeRoom)
	for alive := uint64(wholeRoom); alive < 1<<40; alive *= 2 {
		percent := uint64(percentFor(alive))
		require.LessOrEqual(t, percent, last)
		require.GreaterOrEqual(t, alive*percent/100+alive/100, room, "%d bytes", alive)
		last, room = percent, alive*percent/100
	}
	require.EqualValues(t, 33, last)
	require.Less(t, percentFor(2000*mib)*2000/100, mostGain/mib, "millions of small objects leave what can be given back in one go")
}

func TestRoomFollowsWhatIsAlive(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(usualPercent)
	defer debug.SetGCPercent(before)
	r := newRoom()
	r.follow(1 << 20)
	require.Equal(t, 100, collecting())
	r.follow(1 << 30)
	require.Equal(t, percentFor(1<<30), collecting())
	r.follow(1<<30 + 1<<20)
	require.Equal(t, percentFor(1<<30), collecting(), "hardly anything has changed")

	debug.SetGCPercent(400) // somebody else
	r.follow(1 << 20)
	require.Equal(t, 400, collecting())
	debug.SetGCPercent(percentFor(1 << 30)) // and is done
	r.follow(1 << 20)
	require.Equal(t, 100, collecting())

	t.Setenv("GOGC", "70")
	newRoom().follow(1 << 30)
	require.Equal(t, 100, collecting(), "the user's stands")
}
