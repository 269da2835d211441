package replica

import (
	"io"
	"runtime/debug"
	"runtime/metrics"
	"testing"

	"github.com/stretchr/testify/require"
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
	err := patiently(func(io.ReadCloser) error {
		require.Equal(t, restorePercent, collecting())
		err := patiently(func(io.ReadCloser) error { return io.EOF }, nil)
		require.Equal(t, restorePercent, collecting(), "another one is restored still")
		return err
	}, nil)
	require.Equal(t, io.EOF, err)
	require.Equal(t, 70, collecting())
	require.Panics(t, func() { _ = patiently(func(io.ReadCloser) error { panic("") }, nil) })
	require.Equal(t, 70, collecting())

	debug.SetGCPercent(2 * restorePercent)
	require.NoError(t, patiently(func(io.ReadCloser) error {
		require.Equal(t, 2*restorePercent, collecting(), "more than that was asked for")
		return nil
	}, nil))
	require.Equal(t, 2*restorePercent, collecting())
}
