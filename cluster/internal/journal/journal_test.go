package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var errIO = errors.New("input/output error")

// store is a log beneath whose appends can be held up, or fail.
type store struct {
	*raft.InmemStore
	mu    sync.Mutex
	held  chan struct{} // what appends wait for, if it is there
	err   error
	ends  bool // the goroutine that appends
	sizes []int
}

func newStore() *store { return &store{InmemStore: raft.NewInmemStore()} }

// StoreLogs implements raft.LogStore.
func (s *store) StoreLogs(entries []*raft.Log) error {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held != nil {
		<-held
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends {
		runtime.Goexit()
	}
	if s.err != nil {
		return s.err
	}
	s.sizes = append(s.sizes, len(entries))
	return s.InmemStore.StoreLogs(entries)
}

// hold has appends wait until the function that it returns is called.
func (s *store) hold() (goOn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	})
}

// cell is a file on a disk that loses what is not synced, all of it or some sectors.
type cell struct {
	synced  []byte
	pending []write
	writes  int
	syncs   int
	failing *int // how many more syncs of all files succeed; nil: all
}

type write struct {
	at      int64
	content []byte
}

// WriteAt implements file.
func (c *cell) WriteAt(b []byte, at int64) (int, error) {
	c.writes++
	c.pending = append(c.pending, write{at, slices.Clone(b)})
	return len(b), nil
}

// Sync implements file.
func (c *cell) Sync() error {
	if c.failing != nil {
		if *c.failing == 0 {
			return errIO
		}
		*c.failing--
	}
	c.syncs++
	for _, w := range c.pending {
		c.put(w.at, w.content)
	}
	c.pending = nil
	return nil
}

// Close implements file.
func (c *cell) Close() error { return nil }

func (c *cell) put(at int64, b []byte) {
	if missing := int(at) + len(b) - len(c.synced); missing > 0 {
		c.synced = append(c.synced, make([]byte, missing)...)
	}
	copy(c.synced[at:], b)
}

const sector = 512

var small = limits{bytes: 16 * sector, entries: 20}

// crash puts what survives on the disk.
func (c *cell) crash(survives func() bool) {
	for _, w := range c.pending {
		for at := 0; at < len(w.content); {
			size := min(sector-(int(w.at)+at)%sector, len(w.content)-at)
			if survives() {
				c.put(w.at+int64(at), w.content[at:at+size])
			}
			at += size
		}
	}
	c.pending = nil
}

// opened returns a journal whose files are cells.
func opened(t require.TestingT, dir string, beneath raft.LogStore) (*Log, [2]*cell) {
	l, err := open(dir, beneath, small)
	require.NoError(t, err)
	require.NoError(t, l.closeFiles())
	var cells [2]*cell
	for i, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		cells[i] = &cell{synced: content}
		l.files[i] = cells[i]
	}
	return l, cells
}

func (c *cell) save(t require.TestingT, path string) {
	require.NoError(t, os.WriteFile(path, c.synced, 0o600))
}

func entries(term, first, last uint64, size int) (out []*raft.Log) {
	for index := first; index <= last; index++ {
		var data []byte // nil: it has none
		if size > 0 {
			data = bytes.Repeat([]byte{byte(index)}, size)
		}
		out = append(out, &raft.Log{
			Index: index, Term: term, Type: raft.LogCommand, Data: data, Extensions: []byte{byte(term), byte(index)},
			AppendedAt: time.Unix(int64(index), 5),
		})
	}
	return out
}

func content(t require.TestingT, l raft.LogStore) []*raft.Log {
	out := []*raft.Log{}
	first, err := l.FirstIndex()
	require.NoError(t, err)
	last, err := l.LastIndex()
	require.NoError(t, err)
	for index := first; first > 0 && index <= last; index++ {
		e := new(raft.Log)
		require.NoError(t, l.GetLog(index, e), "entry %d of %d to %d", index, first, last)
		out = append(out, e)
	}
	return out
}

func TestAppendIsOneWriteAndOneSync(t *testing.T) {
	beneath := newStore()
	l, cells := opened(t, t.TempDir(), beneath)
	want := entries(1, 1, 16, 100)
	for batch := range slices.Chunk(want, 4) {
		require.NoError(t, l.StoreLogs(batch))
	}
	require.Equal(t, 4, cells[0].writes+cells[1].writes)
	require.Equal(t, 4, cells[0].syncs+cells[1].syncs)
	require.Empty(t, beneath.sizes)
	require.Equal(t, want, content(t, l))
	require.ErrorIs(t, l.GetLog(17, new(raft.Log)), raft.ErrLogNotFound)
	require.NoError(t, l.Close())
	require.Equal(t, []int{16}, beneath.sizes, "all at once")
	require.Equal(t, want, content(t, beneath))
}

// The property that the package is for: whatever happens, what was acknowledged is
// there, what was cut off is not, and a batch is there as a whole or not at all.
func TestNothingAcknowledgedIsLostByACrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "journal")
		require.NoError(t, err)
		defer os.RemoveAll(dir)
		beneath := newStore()
		l, cells := opened(t, dir, beneath)
		have := []*raft.Log{} // in the log
		term := uint64(1)
		sure := func(what string) { require.Equal(t, have, content(t, l), what) }
		crash := func() {
			l.taking.Wait()
			for i, c := range cells {
				c.crash(func() bool { return rapid.Bool().Draw(t, "survives") })
				c.save(t, filepath.Join(dir, names[i]))
			}
			l, cells = opened(t, dir, beneath)
		}
		// try does something that may fail at any sync. It is done as a whole, or not.
		try := func(do func() error, after []*raft.Log) {
			left := rapid.IntRange(0, 6).Draw(t, "syncs that succeed")
			cells[0].failing, cells[1].failing = &left, &left
			if err := do(); err == nil {
				have = after
				cells[0].failing, cells[1].failing = nil, nil
				return
			}
			require.Error(t, l.StoreLogs(entries(term, 1, 1, 0)), "nothing is written after a failure")
			crash()
			if got := content(t, l); !slices.EqualFunc(got, have, func(a, b *raft.Log) bool { return a.Index == b.Index && a.Term == b.Term }) {
				have = after
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				next := uint64(1)
				if len(have) > 0 {
					next = have[len(have)-1].Index + 1
				}
				count := rapid.Uint64Range(1, 12).Draw(t, "entries")
				size := rapid.SampledFrom([]int{0, 1, 100, 3 * sector, int(small.bytes)}).Draw(t, "size")
				batch := entries(term, next, next+count-1, size)
				try(func() error { return l.StoreLogs(batch) }, append(slices.Clip(have), batch...))
			},
			"cut the end": func(t *rapid.T) {
				if len(have) == 0 {
					return
				}
				at := rapid.IntRange(0, len(have)-1).Draw(t, "at")
				first, last := have[at].Index, have[len(have)-1].Index
				try(func() error { return l.DeleteRange(first, last) }, slices.Clip(have[:at]))
				term++
			},
			"cut the beginning": func(t *rapid.T) {
				if len(have) < 2 {
					return
				}
				at := rapid.IntRange(1, len(have)-1).Draw(t, "at")
				first, last := have[0].Index, have[at-1].Index
				try(func() error { return l.DeleteRange(first, last) }, slices.Clip(have[at:]))
			},
			"crash": func(*rapid.T) { crash() },
			"close": func(t *rapid.T) {
				require.NoError(t, l.Close())
				require.Equal(t, have, content(t, beneath))
				for i, c := range cells {
					c.save(t, filepath.Join(dir, names[i]))
				}
				l, cells = opened(t, dir, beneath)
			},
			"": func(*rapid.T) { sure("what is read") },
		})
		crash()
		sure("after the last crash")
	})
}

// A follower that installs a snapshot keeps what it had before, and goes on behind what
// the snapshot covers.
func TestLogMayHaveAGap(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, newStore())
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.StoreLogs(entries(1, 1, 5, 10)))
	require.NoError(t, l.StoreLogs(entries(1, 501, 503, 10)))
	killed, err := Read(dir, newStore())
	require.NoError(t, err)
	beneath := newStore()
	again, err := Open(dir, beneath)
	require.NoError(t, err)
	defer again.Close()
	for name, log := range map[string]raft.LogStore{"as it is": l, "read": killed, "opened again": again} {
		var got raft.Log
		for _, want := range append(entries(1, 1, 5, 10), entries(1, 501, 503, 10)...) {
			require.NoError(t, log.GetLog(want.Index, &got), "%s: entry %d", name, want.Index)
			require.Equal(t, *want, got, name)
		}
		for _, index := range []uint64{6, 7, 500, 504} {
			require.ErrorIs(t, log.GetLog(index, &got), raft.ErrLogNotFound, "%s: entry %d", name, index)
		}
		last, err := log.LastIndex()
		require.NoError(t, err)
		require.EqualValues(t, 503, last, name)
	}
}

// What waits for the log beneath has a bound: the files are not changed before it has
// all of the other one, and whoever appends waits.
func TestAppendWaitsWhileTheOtherFileIsNotTakenOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		beneath := newStore()
		l, cells := opened(t, dir, beneath)
		goOn := beneath.hold()
		var appended atomic.Uint64
		var work sync.WaitGroup
		size := int(small.bytes) / 10
		work.Go(func() {
			for index := uint64(1); index <= 100; index++ {
				require.NoError(t, l.StoreLogs(entries(1, index, index, size)))
				appended.Store(index)
			}
		})
		synctest.Wait()
		require.Less(t, appended.Load(), uint64(100))
		require.Greater(t, appended.Load(), uint64(int(small.bytes)/(size+100)), "one file is appended to while the other is taken over")
		for _, c := range cells {
			require.LessOrEqual(t, len(c.synced), int(small.bytes))
		}
		require.Len(t, content(t, l), int(appended.Load()), "reading waits for nothing")
		goOn()
		work.Wait()
		require.Equal(t, entries(1, 1, 100, size), content(t, l))
		require.NoError(t, l.Close())
	})
}

func TestNothingIsWrittenAfterWhatIsBeneathHasFailed(t *testing.T) {
	for name, fail := range map[string]func(*store){
		"with an error":           func(s *store) { s.err = errIO },
		"and its goroutine ended": func(s *store) { s.ends = true },
	} {
		t.Run(name, func(t *testing.T) {
			beneath := newStore()
			l, cells := opened(t, t.TempDir(), beneath)
			many := uint64(small.entries)
			fail(beneath)
			require.NoError(t, l.StoreLogs(entries(1, 1, many, 1)))
			require.NoError(t, l.StoreLogs(entries(1, many+1, many+1, 1)), "the journal has it")
			l.taking.Wait()
			writes := cells[0].writes + cells[1].writes
			require.Error(t, l.StoreLogs(entries(1, many+2, many+2, 1)))
			require.Error(t, l.DeleteRange(many, many+1))
			require.NoError(t, l.Close())
			require.Equal(t, writes, cells[0].writes+cells[1].writes)
			require.Len(t, content(t, l), int(many)+1, "what was acknowledged can be read")
		})
	}
}

// A byte that is another one is noticed, unless it is in the last record: that one looks
// like one that was being written.
func TestEveryByteOfTheJournalMayBeWrong(t *testing.T) {
	dir := t.TempDir()
	l, cells := opened(t, dir, newStore())
	want := entries(1, 1, 6, 20)
	ends := int64(0)
	for batch := range slices.Chunk(want, 2) {
		require.NoError(t, l.StoreLogs(batch))
		ends = l.offset
	}
	for i, c := range cells {
		c.save(t, filepath.Join(dir, names[i]))
	}
	path := filepath.Join(dir, names[l.current])
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := range ends {
		bad := slices.Clone(good)
		bad[at] ^= 0x10
		require.NoError(t, os.WriteFile(path, bad, 0o600))
		got, err := Read(dir, raft.NewInmemStore())
		if at < ends-recordSize(want[4:]) {
			require.ErrorIs(t, err, ErrDamaged, "byte %d", at)
			continue
		}
		require.NoError(t, err, "byte %d", at)
		require.Equal(t, want[:4], content(t, got), "byte %d", at)
	}
}

func TestJournalOfAnotherLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(dir, newStore())
	require.NoError(t, err)
	require.NoError(t, l.StoreLogs(entries(1, 1, 5, 1)))
	other := newStore()
	require.NoError(t, other.StoreLogs(entries(2, 1, 9, 1)))
	_, err = Open(dir, other)
	require.ErrorIs(t, err, ErrDamaged)
	_, err = Read(dir, other)
	require.ErrorIs(t, err, ErrDamaged)
	require.NoError(t, l.Close())
}

// Whoever only reads finds what a process that was killed had, and leaves it there.
func TestReadWritesNothing(t *testing.T) {
	dir := t.TempDir()
	none, err := Read(dir, newStore())
	require.NoError(t, err)
	require.Empty(t, content(t, none))
	beneath := newStore()
	l, err := Open(dir, beneath)
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.StoreLogs(entries(1, 1, 3000, 10)))
	require.NoError(t, l.StoreLogs(entries(1, 3001, 3002, 10)))
	l.taking.Wait()
	var before [2][]byte
	for i, name := range names {
		before[i], err = os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	for range 2 {
		got, err := Read(dir, beneath)
		require.NoError(t, err)
		require.Equal(t, entries(1, 1, 3002, 10), content(t, got))
	}
	for i, name := range names {
		after, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, before[i], after)
	}
	require.Equal(t, []int{3000}, beneath.sizes)
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte{})
	good := appendRecord(appendRecord(nil, 7, entries(1, 1, 3, 5)), 8, nil)
	f.Add(good)
	f.Add(append(slices.Clone(good), good...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parse(b)
		if err != nil {
			return
		}
		laterRecord(r.rest, 1)
		again, err := parse(appendRecord(nil, 1, r.entries))
		require.NoError(t, err)
		require.Equal(t, r.entries, again.entries)
	})
}
