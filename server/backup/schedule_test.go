package backup

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
)

func TestFileIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.backup")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	broken := errors.New("broken")
	half := func(w io.Writer) error {
		_, err := io.WriteString(w, "half of it")
		return errors.Join(err, broken)
	}
	require.ErrorIs(t, Create(path, false, half), broken)
	require.Empty(t, names(t, dir), "nothing is left")
	require.NoError(t, Create(path, false, text("first")))
	require.ErrorIs(t, Create(path, false, text("second")), ErrExists)
	require.ErrorIs(t, Create(path, true, half), broken)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "first", string(b), "as it was")
	require.NoError(t, Create(path, true, text("second")))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode())
	require.ErrorIs(t, Create(filepath.Join(dir, "late"), false, func(io.Writer) error {
		return os.WriteFile(filepath.Join(dir, "late"), []byte("somebody else's"), 0o600)
	}), ErrExists)
	require.Equal(t, []string{"late", "x.backup"}, names(t, dir))
}

func TestSpoolLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, size, err := Spool(dir, func(w io.Writer) error {
		_, err := io.WriteString(w, "content")
		return err
	})
	require.NoError(t, err)
	require.Empty(t, names(t, dir))
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	require.Equal(t, "content", string(b))
	require.EqualValues(t, 7, size)
	require.NoError(t, f.Close())
}

func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	require.NoError(t, m.Write(&out))
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// scheduled is a schedule in virtual time, and what fails of it.
type scheduled struct {
	*Schedule
	fails atomic.Bool // what captures the state
	full  atomic.Bool
	hangs atomic.Pointer[chan struct{}] // until when the disk does
	ahead atomic.Int64                  // of the clock, in nanoseconds
}

var errCapture, errFull = errors.New("no leader"), errors.New("no room")

func newScheduled(t *testing.T, dir, node string) *scheduled {
	store := state(t)
	x := &scheduled{}
	x.Schedule = NewSchedule(Config{
		Plan: Plan{Dir: dir, Every: time.Hour, Keep: 3}, ClusterID: "cluster", Node: node, Release: "1.0",
		Capture: func(context.Context) (*fsm.Capture, error) {
			if x.fails.Load() {
				return nil, errCapture
			}
			return store.Capture(), nil
		},
		Room: func() error {
			if until := x.hangs.Load(); until != nil {
				<-*until
			}
			if x.full.Load() {
				return errFull
			}
			return nil
		},
		Clock:  func() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) },
		Logger: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
	})
	return x
}

// runs runs it until the end of the test's bubble.
func (x *scheduled) runs(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.Run(ctx)
	}()
	synctest.Wait()
	return func() {
		cancel()
		<-done
	}
}

func pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func TestBackupsAreMadeAndTheOldestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "made")
		x := newScheduled(t, dir, "n1")
		stop := x.runs(t)
		first := names(t, dir)
		require.Len(t, first, 1, "the first one at once")
		require.EqualValues(t, time.Now().Unix(), value(t, x.success))
		foreign := filepath.Join(dir, "cluster_n2_20000101T000000.000Z.backup")
		require.NoError(t, os.WriteFile(foreign, nil, 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "notes"), nil, 0o600))
		pass(10*time.Hour + time.Minute)
		all := names(t, dir)
		require.Len(t, all, 3+2, "its own newest three, and what is not its own")
		require.NotContains(t, all, first[0])
		for _, name := range all[:3] {
			_, err := checkFile(filepath.Join(dir, name))
			require.NoError(t, err)
		}
		stop()

		pass(20 * time.Minute)
		again := newScheduled(t, dir, "n1")
		stop = again.runs(t)
		require.Equal(t, all, names(t, dir), "a start makes none before it is due")
		require.NotZero(t, value(t, again.success), "and knows the last one")
		pass(45 * time.Minute)
		require.NotEqual(t, all, names(t, dir))
		stop()
	})
}

func TestNothingGoesBeforeANewBackupIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		x := newScheduled(t, dir, "n1")
		stop := x.runs(t)
		pass(5 * time.Hour)
		kept := names(t, dir)
		at := value(t, x.success)
		x.fails.Store(true)
		pass(5 * time.Hour)
		require.Equal(t, kept, names(t, dir), "backups that fail leave everything as it is")
		failures := value(t, x.failures)
		require.Greater(t, failures, 5.0, "it is tried again earlier than an hour later")
		require.Equal(t, at, value(t, x.success))
		x.fails.Store(false)
		x.full.Store(true)
		pass(time.Hour)
		require.Equal(t, kept, names(t, dir), "nor is there half of one when the disk is full")
		require.Greater(t, value(t, x.failures), failures)
		x.full.Store(false)
		pass(retryPause)
		require.NotEqual(t, kept, names(t, dir))
		require.Greater(t, value(t, x.success), at)
		stop()
	})
}

// A directory that hangs holds a node's end up for no more than a moment, and leaves
// no file that is not whole.
func TestDirectoryThatHangsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		x := newScheduled(t, dir, "n1")
		goesOn := make(chan struct{})
		x.hangs.Store(&goesOn)
		stop := x.runs(t)
		began := time.Now()
		stop()
		require.LessOrEqual(t, time.Since(began), hangs)
		close(goesOn)
		synctest.Wait()
		require.Empty(t, names(t, dir))
	})
}

// A clock that was ahead must not have the newest backup taken for the oldest.
func TestClockThatIsSetBackCostsNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		x := newScheduled(t, dir, "n1")
		x.ahead.Store(int64(1000 * time.Hour))
		stop := x.runs(t)
		pass(5 * time.Hour)
		ahead := names(t, dir)
		require.Len(t, ahead, 3)
		stop()
		x = newScheduled(t, dir, "n1")
		stop = x.runs(t)
		pass(time.Hour + time.Minute)
		now := names(t, dir)
		require.Len(t, now, 3)
		require.NotContains(t, ahead, now[0], "the one that was made just now is there")
		stop()
	})
}

func TestWhatACrashLeftGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		x := newScheduled(t, dir, "n1")
		own := filepath.Join(dir, unfinished(x.name(time.Now()))+"-123")
		other := filepath.Join(dir, unfinished(newScheduled(t, dir, "n2").name(time.Now()))+"-123")
		for _, path := range []string{own, other} {
			require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
		}
		stop := x.runs(t)
		require.NoFileExists(t, own)
		require.FileExists(t, other, "another node may be writing it")
		stop()
	})
}

func TestPlansAreChecked(t *testing.T) {
	require.NoError(t, Plan{}.Validate())
	require.NoError(t, Plan{Dir: "x", Every: time.Second, Keep: 1}.Validate())
	require.ErrorContains(t, Plan{Dir: "x", Every: time.Millisecond, Keep: 1}.Validate(), "--backup-every")
	require.ErrorContains(t, Plan{Dir: "x", Every: time.Hour}.Validate(), "--backup-keep")
}
