package disk

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

var errIO = errors.New("input/output error")

// scripted is a store whose writes end as the script says, in turn.
type scripted struct {
	*raft.InmemStore
	script []error
	writes int
	hang   chan struct{}
}

func (s *scripted) step() error {
	s.writes++
	if s.hang != nil {
		<-s.hang
	}
	if len(s.script) == 0 {
		return nil
	}
	err := s.script[0]
	s.script = s.script[1:]
	return err
}

func (s *scripted) StoreLogs([]*raft.Log) error          { return s.step() }
func (s *scripted) DeleteRange(uint64, uint64) error     { return s.step() }
func (s *scripted) Set([]byte, []byte) error             { return s.step() }
func (s *scripted) SetUint64(key []byte, v uint64) error { return s.step() }

func TestNothingIsWrittenAfterFailedWrite(t *testing.T) {
	for name, write := range map[string]func(raft.LogStore, raft.StableStore) error{
		"append": func(l raft.LogStore, _ raft.StableStore) error { return l.StoreLog(&raft.Log{Index: 1}) },
		"cut":    func(l raft.LogStore, _ raft.StableStore) error { return l.DeleteRange(1, 2) },
		"set":    func(_ raft.LogStore, s raft.StableStore) error { return s.Set([]byte("k"), nil) },
		"number": func(_ raft.LogStore, s raft.StableStore) error { return s.SetUint64([]byte("k"), 1) },
	} {
		t.Run(name, func(t *testing.T) {
			d, inner := New(), &scripted{InmemStore: raft.NewInmemStore(), script: []error{nil, errIO}}
			log, stable := d.Log(inner), d.Stable(inner)
			require.NoError(t, write(log, stable))
			require.ErrorIs(t, write(log, stable), errIO)
			require.ErrorIs(t, d.Failure(), ErrFailed)
			<-d.Broken()
			require.ErrorIs(t, log.StoreLogs(nil), ErrFailed, "the disk would take it again")
			require.ErrorIs(t, stable.Set(nil, nil), ErrFailed)
			require.Equal(t, 2, inner.writes, "writes that were tried")

			// Once raft runs it is not told.
			d.Guard()
			ended := make(chan bool)
			go func() {
				told := false
				defer func() { ended <- told }()
				_ = write(log, stable)
				told = true
			}()
			require.False(t, <-ended, "the writer went on")
			require.Equal(t, 2, inner.writes)
		})
	}
}

// What is written once more, in the background, is told to nobody unless it fails.
func TestFailureOfALaterWriteEndsAllWriting(t *testing.T) {
	d, inner := New(), &scripted{InmemStore: raft.NewInmemStore(), script: []error{nil, errIO}}
	d.Observe(func(time.Duration) { t.Error("it was told when it was appended") }, nil, nil)
	later := d.Later(inner)
	require.NoError(t, later.StoreLog(&raft.Log{Index: 1}))
	require.ErrorIs(t, later.StoreLog(&raft.Log{Index: 2}), errIO)
	<-d.Broken()
	require.ErrorIs(t, d.Log(inner).StoreLog(&raft.Log{Index: 3}), ErrFailed)
	require.Equal(t, 2, inner.writes)
}

// A snapshot succeeds although what it covers stays in the log.
func TestFailedLogTruncationIsReported(t *testing.T) {
	d, inner := New(), &scripted{InmemStore: raft.NewInmemStore(), script: []error{errIO}}
	require.NoError(t, inner.InmemStore.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}, {Index: 3}}))
	d.Guard()
	require.ErrorIs(t, d.Log(inner).DeleteRange(1, 2), errIO)
	<-d.Broken()
	require.ErrorIs(t, d.Log(inner).DeleteRange(1, 2), ErrFailed)
	require.Equal(t, 1, inner.writes)
}

func TestHangingWriteIsMeasured(t *testing.T) {
	d, inner := New(), &scripted{InmemStore: raft.NewInmemStore(), hang: make(chan struct{})}
	require.Zero(t, d.Waiting())
	done := make(chan error)
	go func() { done <- d.Log(inner).StoreLog(&raft.Log{Index: 1}) }()
	require.Eventually(t, func() bool { return d.Waiting() > 20*time.Millisecond }, 30*time.Second, time.Millisecond)
	close(inner.hang)
	require.NoError(t, <-done)
	require.Zero(t, d.Waiting())
}
