package ratelimit

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFullBucketsAreForgotten looks inside: memory has no other witness.
func TestFullBucketsAreForgotten(t *testing.T) {
	l := New(Default())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 10_000 {
		l.Take(Bucket{Name: strconv.Itoa(i), Rate: 1}, 1, now)
	}
	require.Equal(t, 10_000, l.kept())

	for range 3 { // one bucket in use is enough to empty all shards
		now = now.Add(20 * time.Second)
		l.Take(Bucket{Name: "in use", Rate: 1}, 1, now)
	}
	require.LessOrEqual(t, l.kept(), 2)
}

func TestFullBucketsAreForgottenWhenTheClockIsSetBack(t *testing.T) {
	l := New(Default())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l.Take(Bucket{Name: "before", Rate: 1}, 1, now)
	now = now.Add(-24 * time.Hour)
	for i := range 100 {
		now = now.Add(time.Second)
		l.Take(Bucket{Name: strconv.Itoa(i), Rate: 1}, 1, now)
	}
	require.LessOrEqual(t, l.kept(), 40, "those of the last two turns")
}

func TestWhatNeedsNoBucketKeepsNone(t *testing.T) {
	l := New(Default())
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 1000 {
		l.Take(Bucket{Name: strconv.Itoa(i)}, 1, now)
		l.Take(Bucket{Name: strconv.Itoa(i), Rate: 1}, 0, now)
	}
	require.Zero(t, l.kept())
}

func (l *Limiter) kept() (n int) {
	for i := range l.shards {
		n += len(l.shards[i].young) + len(l.shards[i].old)
	}
	return n
}
