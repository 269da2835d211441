package admin_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
)

func TestProfilesAreWhatPprofReads(t *testing.T) {
	client, _ := serve(t, fake{})
	for _, name := range admin.Profiles {
		content, err := client.Profile(t.Context(), name, 100*time.Millisecond)
		require.NoError(t, err, name)
		z, err := gzip.NewReader(bytes.NewReader(content))
		require.NoError(t, err, name)
		raw, err := io.ReadAll(z)
		require.NoError(t, err, name)
		require.NotEmpty(t, raw, name)
	}
	_, err := client.Profile(t.Context(), "nonesuch", 0)
	require.ErrorIs(t, err, objects.ErrNotFound)
	for _, span := range []time.Duration{0, -time.Second, admin.MaxProfileTime + time.Second} {
		_, err = client.Profile(t.Context(), admin.ProfileCPU, span)
		require.ErrorIs(t, err, objects.ErrParameter, "%v", span)
	}
}

func TestOneProfileIsMadeAtATime(t *testing.T) {
	client, _ := serve(t, fake{})
	enough, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-enough:
				return
			default:
				_, _ = client.Profile(t.Context(), admin.ProfileCPU, time.Second) // refused, perhaps, by one of those below
			}
		}
	}()
	require.Eventually(t, func() bool {
		_, err := client.Profile(t.Context(), "goroutine", 0)
		return err != nil && objects.ErrTooMany.Is(err)
	}, 20*time.Second, 5*time.Millisecond, "while one is made, another is refused")
	close(enough)
	<-ended
	_, err := client.Profile(t.Context(), "goroutine", 0)
	require.NoError(t, err)
}
