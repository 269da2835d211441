package limits

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster"
	"lockstep/objects"
)

func TestRefusalsAreRemembered(t *testing.T) {
	now := time.Unix(1000, 0)
	l := New(Rates{Reads: Limit{Rate: 1, Identity: 1}, Burst: time.Second}, func() time.Time { return now })
	bucket := func(identity string) objects.Bucket {
		return objects.Bucket{Class: objects.BucketReads, SID: objects.NewSID(objects.KindMap, [16]byte{1}), Identity: identity}
	}
	l.AdmitReads([]cluster.ReadCharge{{Bucket: bucket("alice"), Count: 5}})
	latest, total := l.Refusals()
	require.Equal(t, []Refusal{{Bucket: bucket("alice"), Count: 4, First: now, Last: now}}, latest)
	require.EqualValues(t, 4, total)

	for i := range maxRefusals + 10 {
		now = now.Add(time.Millisecond)
		l.AdmitReads([]cluster.ReadCharge{{Bucket: bucket(strconv.Itoa(i)), Count: 5}})
	}
	latest, _ = l.Refusals()
	require.Len(t, latest, maxRefusals, "the oldest are forgotten")
	require.Equal(t, bucket(strconv.Itoa(maxRefusals+9)), latest[0].Bucket, "the latest is first")
}
