package replica

import (
	"io"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/lifetime"
)

// collecting returns the collector's share of memory.
func collecting() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

func TestCollectorIsPatientWhileStatesAreRestored(t *testing.T) {
	before := debug.SetGCPercent(70)
	defer debug.SetGCPercent(before)
	synctest.Test(t, func(t *testing.T) {
		life := lifetime.New()
		err := patiently(life, func() error {
			require.Equal(t, off, collecting())
			time.Sleep(time.Minute)
			err := patiently(life, func() error { return io.EOF })
			time.Sleep(time.Minute)
			require.Equal(t, off, collecting(), "another one is restored still")
			return err
		})
		require.Equal(t, io.EOF, err)
		require.Equal(t, off, collecting(), "the node catches up")
		time.Sleep(calm)
		synctest.Wait()
		require.Equal(t, 70, collecting())
		life.End()
		life.Wait()
	})

	life := lifetime.New()
	require.Panics(t, func() { _ = patiently(life, func() error { panic("") }) })
	life.End()
	life.Wait()
	require.Equal(t, 70, collecting(), "the end of the node ends it")
	require.NoError(t, patiently(life, func() error { return nil }))
	require.Equal(t, 70, collecting())
}
