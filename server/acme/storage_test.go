package acme

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

// vault is a store of its own, which seals by turning each byte over.
type vault struct{ *fsmtest.Node }

func (v vault) Read(ctx context.Context) (*fsm.View, error) {
	return v.Node.Read(ctx, objects.Bucket{})
}

func (v vault) Seal(_ string, plain []byte) (fsm.KeyID, []byte, error) {
	return fsm.KeyID{1}, turn(plain), nil
}

func (v vault) Unseal(s *fsm.Sealed) ([]byte, error) {
	if bytes.HasPrefix(s.Data, []byte("foreign")) {
		return nil, errors.New("it is another's")
	}
	return turn(s.Data), nil
}

func turn(b []byte) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] = ^out[i]
	}
	return out
}

func newTestStorage(t *testing.T, v vault) *storage {
	life, stop := context.WithCancel(context.Background())
	s := newStorage(life, v, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		stop()
		s.close()
	})
	return s
}

func TestStorageIsSharedByNodes(t *testing.T) {
	v, ctx := vault{fsmtest.New(time.Now)}, t.Context()
	one, two := newTestStorage(t, v), newTestStorage(t, v)
	for _, key := range []string{"acme/ca/users/a/a.json", "acme/ca/users/a/a.key", "certificates/x.crt", "last"} {
		require.NoError(t, one.Store(ctx, key, []byte("value of "+key)))
	}
	got, err := two.Load(ctx, "certificates/x.crt")
	require.NoError(t, err)
	require.Equal(t, "value of certificates/x.crt", string(got))
	sealed, ok := v.View().Sealed(prefix + "last")
	require.True(t, ok)
	require.NotContains(t, string(sealed.Data), "value")

	_, err = two.Load(ctx, "none")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = two.Load(ctx, "certificates")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.True(t, two.Exists(ctx, "acme/ca/users"))
	require.False(t, two.Exists(ctx, "acme/c"))
	info, err := two.Stat(ctx, "last")
	require.NoError(t, err)
	require.True(t, info.IsTerminal)
	require.EqualValues(t, len("value of last"), info.Size)
	require.Less(t, time.Since(info.Modified).Abs(), time.Hour)
	info, err = two.Stat(ctx, "acme")
	require.NoError(t, err)
	require.False(t, info.IsTerminal)

	keys, err := two.List(ctx, "acme/ca/users", false)
	require.NoError(t, err)
	require.Equal(t, []string{"acme/ca/users/a"}, keys)
	keys, err = two.List(ctx, "acme/ca/users", true)
	require.NoError(t, err)
	require.Equal(t, []string{"acme/ca/users/a/a.json", "acme/ca/users/a/a.key"}, keys)
	keys, err = two.List(ctx, "", false)
	require.NoError(t, err)
	require.Equal(t, []string{"acme", "certificates", "last"}, keys)
	_, err = two.List(ctx, "nowhere", true)
	require.ErrorIs(t, err, fs.ErrNotExist)

	require.NoError(t, two.Delete(ctx, "acme"))
	require.NoError(t, two.Delete(ctx, "acme"))
	require.False(t, one.Exists(ctx, "acme/ca/users/a/a.key"))

	v.Must(&fsm.StoreSealed{Name: prefix + "lost", Key: fsm.KeyID{1}, Data: []byte("foreign")})
	_, err = one.Load(ctx, "lost")
	require.ErrorIs(t, err, fs.ErrNotExist, "what cannot be opened is made anew")
	require.ErrorContains(t, one.Store(ctx, "large", make([]byte, fsm.MaxSealed+1)), "too large")
}

func TestLockHasOneHolder(t *testing.T) {
	v, ctx := vault{fsmtest.New(time.Now)}, t.Context()
	one, two := newTestStorage(t, v), newTestStorage(t, v)
	require.NoError(t, one.Lock(ctx, "x"))
	require.NoError(t, two.Lock(ctx, "y"), "another one is free")
	waiting, giveUp := context.WithTimeout(ctx, 50*time.Millisecond)
	defer giveUp()
	require.ErrorIs(t, two.Lock(waiting, "x"), context.DeadlineExceeded)
	require.ErrorIs(t, two.Unlock(ctx, "x"), errNotLocked)

	got := make(chan error, 1)
	go func() { got <- two.Lock(ctx, "x") }()
	require.NoError(t, one.Unlock(ctx, "x"))
	require.NoError(t, <-got)
	require.NoError(t, two.Unlock(ctx, "x"))
	require.NoError(t, one.Lock(ctx, "x"))
	require.NoError(t, one.Unlock(ctx, "x"))
}
