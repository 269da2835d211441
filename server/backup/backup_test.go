package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/test/golden"
)

var (
	service   = objects.NewSID(objects.KindService, [16]byte{1})
	keySID    = objects.NewSID(objects.KindKey, [16]byte{2})
	stampTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	origin    = Origin{Node: "n1", Release: "1.0", At: stampTime.Add(time.Minute)}
)

// state is a store with something of each kind, the same each time.
func state(t require.TestingT) *fsm.FSM {
	store := fsm.New(fsm.Config{})
	index := uint64(0)
	do := func(op fsm.Op) {
		index++
		c := &fsm.Command{Issued: index - 1, Service: service, Op: op}
		binary.BigEndian.PutUint64(c.ID[:], index)
		b, err := c.Encode()
		require.NoError(t, err)
		entry := &raft.Log{Index: index, Term: 3, Type: raft.LogCommand, Data: fsm.EncodeBatch(stampTime.UnixMilli(), [][]byte{b})}
		for _, r := range store.Apply(entry).([]*fsm.Result) {
			if r.Err != nil {
				require.NoError(t, r.Err)
			}
		}
	}
	do(&fsm.Initialise{ClusterID: "cluster", AccountSID: "AC00000000000000000000000000000001", AuthToken: "token", Service: service})
	do(&fsm.CreateKey{SID: keySID, Secret: "secret"})
	for i, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap, objects.KindStream} {
		do(&fsm.CreateObject{SID: objects.NewSID(kind, [16]byte{byte(i)}), UniqueName: "one", Data: []byte(`{"n":1}`)})
	}
	do(&fsm.WriteItem{Kind: objects.KindList, Object: fsm.Ref{Name: "one"}, Mode: fsm.AppendItem, Data: []byte(`1`)})
	for _, key := range []string{"a", "b"} {
		do(&fsm.WriteItem{Kind: objects.KindMap, Object: fsm.Ref{Name: "one"}, Item: fsm.ItemKey{Key: key}, Mode: fsm.PutItem, Data: []byte(`2`)})
	}
	do(&fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{Name: "one"}, Item: fsm.ItemKey{Key: "a"}})
	do(&fsm.SetPermission{Kind: objects.KindMap, Object: fsm.Ref{Name: "one"}, Identity: "alice", Rights: objects.Read})
	return store
}

func written(t require.TestingT, s *fsm.FSM) []byte {
	var b bytes.Buffer
	require.NoError(t, Write(&b, origin, s.Capture()))
	return b.Bytes()
}

func snapshot(t require.TestingT, s *fsm.FSM) []byte {
	var b bytes.Buffer
	require.NoError(t, s.WriteSnapshot(&b))
	return b.Bytes()
}

func TestBackupIsTheState(t *testing.T) {
	s := state(t)
	b := written(t, s)
	for name, in := range map[string]io.Reader{
		"at once": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b)), "with its end": iotest.DataErrReader(bytes.NewReader(b)),
	} {
		back, err := Load(in)
		require.NoError(t, err, name)
		require.Equal(t, snapshot(t, s), snapshot(t, back.State), name)
		require.Equal(t, Header{
			ClusterID: "cluster", Index: s.View().Index(), Term: 3, Time: stampTime.UnixMilli(), Taken: origin.At.UnixMilli(), Node: "n1", Release: "1.0",
		}, back.Header, name)
		require.Equal(t, fsm.Level1, back.Level)
		require.EqualValues(t, len(b), back.Size)
		require.Equal(t, sha256.Sum256(b[:len(b)-sha256.Size]), back.Sum)
	}
	checked, err := Check(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(b[:len(b)-sha256.Size]), checked.Sum)
}

// reseal gives altered content the SHA-256 that it would have.
func reseal(b []byte) []byte {
	sum := sha256.Sum256(b[:len(b)-sha256.Size])
	return append(bytes.Clone(b[:len(b)-sha256.Size]), sum[:]...)
}

func TestEveryByteOfABackupMayBeWrong(t *testing.T) {
	b := written(t, state(t))
	for at := range b {
		for _, flip := range []byte{1, 0x80} {
			bad := bytes.Clone(b)
			bad[at] ^= flip
			_, err := Load(bytes.NewReader(bad))
			want := ErrDamaged
			if at < len(magic) {
				want = ErrNot
			}
			require.ErrorIs(t, err, want, "byte %d", at)
			_, err = Check(bytes.NewReader(bad))
			require.ErrorIs(t, err, want, "byte %d", at)
		}
		_, err := Load(bytes.NewReader(b[:at]))
		require.True(t, Unusable(err), "cut off at %d: %v", at, err)
		_, err = Check(bytes.NewReader(b[:at]))
		require.Error(t, err, "cut off at %d", at)
	}
	_, err := Load(bytes.NewReader(append(bytes.Clone(b), 0)))
	require.ErrorIs(t, err, ErrDamaged, "too long")
}

func TestWhatIsNoBackupIsCalledThat(t *testing.T) {
	s := state(t)
	for name, content := range map[string][]byte{"empty": {}, "a snapshot": snapshot(t, s), "text": []byte("what is this?")} {
		_, err := Load(bytes.NewReader(content))
		require.ErrorIs(t, err, ErrNot, name)
	}
}

func TestNewerBackupIsRefusedInWords(t *testing.T) {
	b := written(t, state(t))
	b[len(magic)] = byte(fsm.Newest) + 1
	_, err := Load(bytes.NewReader(b))
	require.ErrorIs(t, err, ErrDamaged, "a level that was altered is damage")
	_, err = Load(bytes.NewReader(reseal(b)))
	require.ErrorIs(t, err, fsm.ErrNewer)
	_, err = Check(bytes.NewReader(reseal(b)))
	require.NoError(t, err, "it is what was written all the same")
}

// A header may say something else than the state only if somebody made it so.
func TestHeaderIsThatOfTheState(t *testing.T) {
	s := state(t)
	b := written(t, s)
	at := bytes.Index(b, []byte("cluster"))
	b[at] = 'k'
	_, err := Load(bytes.NewReader(reseal(b)))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "header")
}

func TestFileThatCannotBeReadIsNotDamaged(t *testing.T) {
	b := written(t, state(t))
	broken := errors.New("bad sector")
	for _, at := range []int{9, 60, len(b) - 40, len(b) - 10} {
		_, err := Load(io.MultiReader(bytes.NewReader(b[:at]), iotest.ErrReader(broken)))
		require.ErrorIs(t, err, broken, "at %d", at)
		require.False(t, Unusable(err), "at %d: %v", at, err)
	}
}

const goldenBackup = "testdata/golden/level1.backup"

// What a release has written, every later one reads.
func TestBackupOfTheFirstReleaseIsRead(t *testing.T) {
	golden.Keep(t, goldenBackup, written(t, state(t)))
	f, err := os.Open(goldenBackup)
	require.NoError(t, err)
	defer f.Close()
	back, err := Load(f)
	require.NoError(t, err)
	require.Equal(t, "cluster", back.ClusterID)
	require.Equal(t, fsm.Level1, back.Level)
	require.Equal(t, origin.At, back.TakenAt())
	require.Equal(t, snapshot(t, state(t)), snapshot(t, back.State))
}

func TestHeaderIsAsItWas(t *testing.T) {
	h := golden.Fill(&Header{})
	golden.NoZero(t, h)
	b, err := encoding.Marshal(h)
	require.NoError(t, err)
	golden.Check(t, filepath.Join("testdata", "golden", "header"), map[string][]byte{"Header": b})
	var back Header
	require.NoError(t, decoding.Unmarshal(golden.Read(t, filepath.Join("testdata", "golden", "header"))["Header"], &back))
	require.Equal(t, *h, back)
}

// Nothing that can stand in a file makes a reader panic, and what it takes for good
// is what was written.
func FuzzLoad(f *testing.F) {
	whole := written(f, state(f))
	f.Add(whole, false)
	f.Add(whole[:40], true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= sha256.Size {
			b = reseal(b)
		}
		back, err := Load(bytes.NewReader(b))
		if err != nil {
			require.True(t, Unusable(err), "%v", err)
			return
		}
		require.NoError(t, back.State.View().Verify())
		again, err := Check(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, back.Summary, again)
	})
}
