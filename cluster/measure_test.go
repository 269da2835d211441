package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHistoryKnowsWhenRecentRoundsWereApplied(t *testing.T) {
	h := history{opened: time.Now()}
	for index := uint64(10); index <= 10+2*keptTimes; index += 2 {
		h.applied(index)
	}
	_, ok := h.since(10 + 2*keptTimes)
	require.True(t, ok, "the newest")
	_, ok = h.since(10 + 2)
	require.True(t, ok, "the oldest that is kept")
	_, ok = h.since(10)
	require.False(t, ok, "one before it")
	_, ok = h.since(10 + 3)
	require.False(t, ok, "no round ends there")
	require.Zero(t, testing.AllocsPerRun(100, func() { h.applied(5000); h.since(5000) }))
}

func TestCommitIsMeasuredUntilApplicationBegins(t *testing.T) {
	var h history
	handed := time.Now()
	_, ok := h.began(handed)
	require.False(t, ok, "nothing was applied since")
	begun := h.applying()
	wait, ok := h.began(handed)
	require.True(t, ok)
	require.Equal(t, begun.Sub(handed), wait)
}
