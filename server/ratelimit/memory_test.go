package ratelimit

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFullBucketsAreForgotten looks inside: memory has no other witness.
func TestFullBucketsAreForgotten(t *testing.T) {
	l := New[string](0)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 10_000 {
		l.Take(now, 1, Bucket[string]{Key: strconv.Itoa(i), Rate: 1})
	}
	require.Equal(t, 10_000, l.kept())

	for range 3 { // one bucket in use is enough to empty all shards
		now = now.Add(20 * time.Second)
		l.Take(now, 1, Bucket[string]{Key: "in use", Rate: 1})
	}
	require.LessOrEqual(t, l.kept(), 2)
}

func TestFullBucketsAreForgottenWhenClockIsSetBack(t *testing.T) {
	l := New[string](0)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l.Take(now, 1, Bucket[string]{Key: "before", Rate: 1})
	now = now.Add(-24 * time.Hour)
	for i := range 100 {
		now = now.Add(time.Second)
		l.Take(now, 1, Bucket[string]{Key: strconv.Itoa(i), Rate: 1})
	}
	require.LessOrEqual(t, l.kept(), 40, "those of the last two turns")
}

func TestFreeOrUnlimitedTakeKeepsNoBucket(t *testing.T) {
	l := New[string](0)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 1000 {
		l.Take(now, 1, Bucket[string]{Key: strconv.Itoa(i)})
		l.Take(now, 0, Bucket[string]{Key: strconv.Itoa(i), Rate: 1})
	}
	require.Zero(t, l.kept())
}

func (l *Limiter[K]) kept() (n int) {
	for i := range l.shards {
		n += len(l.shards[i].young) + len(l.shards[i].old)
	}
	return n
}

func TestBucketsAreBounded(t *testing.T) {
	l := New[int](0)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 4 * shardCount * maxYoung {
		l.Take(now, 1, Bucket[int]{Key: i, Rate: 1})
	}
	require.LessOrEqual(t, l.kept(), 2*shardCount*maxYoung)
	last := Bucket[int]{Key: 4*shardCount*maxYoung - 1, Rate: 1}
	require.NotZero(t, l.Take(now, 10, last), "the last ones are known")
}
