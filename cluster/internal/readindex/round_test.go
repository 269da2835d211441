package readindex

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/wire"
	"lockstep/objects"
)

func TestRoundChargesByBucket(t *testing.T) {
	read := func(bucket objects.Bucket) *waitingRead {
		return &waitingRead{ctx: context.Background(), bucket: bucket, out: make(chan readOutcome, 1)}
	}
	a := objects.Bucket{Class: objects.BucketReads, Identity: "a"}
	b := objects.Bucket{Class: objects.BucketReads, Identity: "b"}
	round := []*waitingRead{read(a), read(objects.Bucket{}), read(b), read(a)}
	charges := chargesOf(round)
	require.Equal(t, []Charge{{a, 2}, {b, 1}}, charges)
	finish(round, charges, Answer{Index: 42, Grants: []Grant{{Count: 1, RetryAfter: time.Minute}, {RetryAfter: time.Second}}})
	require.Equal(t, readOutcome{index: 42}, <-round[0].out)
	require.Equal(t, readOutcome{index: 42}, <-round[1].out)
	require.Equal(t, &RateLimited{Wait: time.Second}, (<-round[2].out).err)
	require.Equal(t, &RateLimited{Wait: time.Minute}, (<-round[3].out).err, "the first of its bucket took what was left")
}

func TestTooManyReadsAreRefused(t *testing.T) {
	r := New(Config{})
	r.waiting = make([]*waitingRead, maxReads)
	require.ErrorIs(t, r.join(&waitingRead{}), wire.ErrOverloaded)
}
