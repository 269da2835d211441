package fsm

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLevelRisesAndNeverFalls(t *testing.T) {
	s := newStore(t)
	require.Equal(t, Level1, s.fsm.View().Level())
	s.must(asREST, &RaiseLevel{Level: Newest})
	require.Equal(t, Newest, s.fsm.View().Level())
	s.must(asREST, &RaiseLevel{Level: 0})
	require.Equal(t, Newest, s.fsm.View().Level())
}

// TestNewerFormatLevelIsRefused covers a command, a log entry and a
// snapshot; an entry's damage is told apart from that.
func TestNewerFormatLevelIsRefused(t *testing.T) {
	newer := binary.AppendUvarint(nil, uint64(Newest)+1)
	_, err := DecodeCommand(append(newer, 1, 2, 3))
	require.ErrorIs(t, err, ErrNewer)
	require.ErrorContains(t, err, "it is at level 2, and this release knows up to level 1")

	good, err := (&Command{Op: &expire{}}).Encode()
	require.NoError(t, err)
	batch := EncodeBatch(1, [][]byte{good, append(newer, 1, 2, 3)})
	require.ErrorIs(t, CheckBatch(batch), ErrNewer)
	batch[len(batch)-6] ^= 1
	err = CheckBatch(batch)
	require.ErrorIs(t, err, ErrCommand)
	require.NotErrorIs(t, err, ErrNewer)

	raise, err := (&Command{Op: &RaiseLevel{Level: Newest + 1}}).Encode()
	require.NoError(t, err)
	require.ErrorIs(t, CheckBatch(EncodeBatch(1, [][]byte{raise})), ErrNewer, "from there on it cannot follow")

	s := newStore(t)
	old := snapshotBytes(t, s.fsm)
	require.NoError(t, CheckSnapshot(bytes.NewReader(old)))
	s.fsm.work.meta.Level++
	s.fsm.publish()
	b := snapshotBytes(t, s.fsm)
	require.ErrorIs(t, CheckSnapshot(bytes.NewReader(b)), ErrNewer)
	require.ErrorIs(t, New(Config{}).Restore(io.NopCloser(bytes.NewReader(b))), ErrNewer)
	forged := bytes.Clone(b)
	forged[len(snapshotMagic)] = old[len(snapshotMagic)]
	require.ErrorIs(t, New(Config{}).Restore(io.NopCloser(bytes.NewReader(forged))), ErrSnapshot)
}
