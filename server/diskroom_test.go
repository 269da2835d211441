package server

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/bounds"
)

func TestFullDiskRefusesAllButRemovals(t *testing.T) {
	free, err := int64(100), error(nil)
	d := &diskRoom{reserve: 100, log: slog.New(slog.DiscardHandler), free: func() (int64, error) { return free, err }}
	require.False(t, d.short())
	require.Empty(t, d.note())
	free = 99
	require.True(t, d.short())
	require.NotEmpty(t, d.note())
	err = errors.New("not known")
	require.False(t, d.short())

	writes := []fsm.Op{
		&fsm.CreateService{}, &fsm.UpdateService{}, &fsm.CreateObject{}, &fsm.UpdateObject{}, &fsm.WriteItem{}, &fsm.Publish{}, &fsm.SetPermission{}, &fsm.CreateKey{}, &fsm.Transact{}, &fsm.Import{}, &fsm.OpenDurable{}, &fsm.AppendDurable{}, &fsm.HoldItem{}, &fsm.OpenLease{},
	}
	removals := []fsm.Op{&fsm.RemoveService{}, &fsm.RemoveItem{}, &fsm.RemoveObject{}, &fsm.RemovePermission{}, &fsm.RevokeKey{}, &fsm.DropAuthToken{}, &fsm.RenewLease{}, &fsm.CloseLease{}}
	secrets := []fsm.Op{&fsm.AddAuthToken{}, &fsm.PromoteAuthToken{}, &fsm.RotateKey{}}
	removals = append(removals, secrets...)
	decided := map[string]bool{}
	for _, op := range append(slices.Clone(writes), removals...) {
		decided[fmt.Sprintf("%T", op)] = true
	}
	for _, op := range fsm.Operations() {
		if fsm.ByClient(op) {
			require.True(t, decided[fmt.Sprintf("%T", op)], "nobody has decided about %T", op)
		}
	}
	for _, refuses := range []bool{false, true, false} {
		d.told(refuses)
		for _, op := range writes {
			if refused := d.refuse(&fsm.Command{Op: op}); refuses {
				require.ErrorIs(t, refused, objects.ErrDiskFull, "%T", op)
				require.NotZero(t, refused.RetryAfter)
			} else {
				require.Nil(t, refused, "%T", op)
			}
		}
		for _, op := range removals {
			require.Nil(t, d.refuse(&fsm.Command{Op: op}), "%T", op)
		}
	}
}

func TestRoomOfADirectoryIsKnown(t *testing.T) {
	d := newDiskRoom(bounds.Bounds{DiskReserve: 1 << 62}, t.TempDir(), slog.Default())
	free, err := d.free()
	require.NoError(t, err)
	require.Positive(t, free)
	require.True(t, d.short())
	d.reserve = -1
	require.False(t, d.short(), "switched off")
}
