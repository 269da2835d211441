// Package backup is a cluster's whole state in a file: its form, how it gets onto
// a disk whole or not at all, and the directory in which a node keeps the newest
// ones that it makes at intervals.
//
// A file is the magic, the format level that its reader has to know as a varint,
// the length of the header as a varint, the header in CBOR, the state in the form
// of a snapshot, and the SHA-256 of all before it. The magic, the place of the level
// and the SHA-256 are the same at all levels.
//
// The package knows the state, and neither the cluster nor how a state is made
// that of a new one. A Schedule's work is done by whoever calls Run.
package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"

	"lockstep/fsm"
)

var magic = []byte("LSBACKUP")

// maxHeader bounds what a reader allocates for a header.
const maxHeader = 64 << 10

var (
	// ErrNot: the file is something else.
	ErrNot = errors.New("this is not a backup")

	// ErrDamaged: the file is not what was written.
	ErrDamaged = errors.New("the backup is damaged")
)

// Header is what a backup says of itself.
type Header struct {
	ClusterID string `cbor:"1,keyasint"`
	Index     uint64 `cbor:"2,keyasint"` // of the log entry after which the state was this
	Term      uint64 `cbor:"3,keyasint"` // of that entry
	Time      int64  `cbor:"4,keyasint"` // the cluster's, of its last write, in Unix milliseconds
	Taken     int64  `cbor:"5,keyasint"` // the node's clock when it was made, likewise
	Node      string `cbor:"6,keyasint"`
	Release   string `cbor:"7,keyasint"` // that the node ran
}

// TakenAt returns when the backup was made, by the clock of the node.
func (h Header) TakenAt() time.Time { return time.UnixMilli(h.Taken).UTC() }

// Origin is who makes a backup, and when.
type Origin struct {
	Node, Release string
	At            time.Time
}

var (
	encoding = must(cbor.CanonicalEncOptions().EncMode())
	decoding = must(cbor.DecOptions{ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode())
)

func must[T any](x T, err error) T {
	if err != nil {
		panic(err)
	}
	return x
}

// Write writes a backup.
func Write(w io.Writer, from Origin, state *fsm.Capture) error {
	v := state.View()
	header, err := encoding.Marshal(Header{
		ClusterID: v.ClusterID(), Index: v.Index(), Term: v.Term(), Time: v.Time(),
		Taken: from.At.UnixMilli(), Node: from.Node, Release: from.Release,
	})
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	head := binary.AppendUvarint(bytes.Clone(magic), uint64(v.Level()))
	head = append(binary.AppendUvarint(head, uint64(len(header))), header...)
	sum := sha256.New()
	both := io.MultiWriter(w, sum)
	if _, err := both.Write(head); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	if err := state.Write(both); err != nil {
		return err
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// Summary is what is known of a backup that is what was written.
type Summary struct {
	Header
	Level fsm.Level
	Size  int64
	Sum   [sha256.Size]byte
}

// Check reads a backup to its end, and compares its SHA-256. It holds none of the
// state in memory, and does not know whether this release can read it.
func Check(in io.Reader) (Summary, error) {
	b := newBody(in)
	s, err := readHead(b)
	if errors.Is(err, fsm.ErrNewer) {
		err = nil
	}
	return b.finish(s, err)
}

// Loaded is a backup with its state.
type Loaded struct {
	Summary
	State *fsm.FSM
}

// Unusable reports whether an error of Load is that the file has no state that this
// release can read, and not that the file could not be read.
func Unusable(err error) bool {
	return errors.Is(err, ErrNot) || errors.Is(err, ErrDamaged) || errors.Is(err, fsm.ErrNewer)
}

// Load reads a whole backup and its state. The error is fsm.ErrNewer if a newer
// release has written it.
func Load(in io.Reader) (Loaded, error) {
	b := newBody(in)
	s, err := readHead(b)
	state := fsm.New(fsm.Config{})
	if err == nil {
		if err = state.Restore(io.NopCloser(b)); err != nil {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if err == nil {
		err = s.describes(state.View())
	}
	s, err = b.finish(s, err)
	if err != nil {
		return Loaded{}, err
	}
	return Loaded{s, state}, nil
}

// describes returns an error if the header is not that of the state.
func (s Summary) describes(v *fsm.View) error {
	if s.Level != v.Level() || s.ClusterID != v.ClusterID() || s.Index != v.Index() || s.Term != v.Term() || s.Time != v.Time() {
		return fmt.Errorf("%w: its header is not that of its state", ErrDamaged)
	}
	return nil
}

func readHead(b *body) (s Summary, err error) {
	r := byteReader{b}
	start := make([]byte, len(magic))
	if _, err := io.ReadFull(b, start); err != nil || !bytes.Equal(start, magic) {
		return s, ErrNot
	}
	level, err := binary.ReadUvarint(r)
	if err != nil || level == 0 || level > uint64(^fsm.Level(0)) {
		return s, fmt.Errorf("%w: no format level", ErrDamaged)
	}
	if s.Level = fsm.Level(level); s.Level > fsm.Newest {
		return s, fmt.Errorf("%w: the backup is at level %d, and this release knows up to level %d", fsm.ErrNewer, level, fsm.Newest)
	}
	size, err := binary.ReadUvarint(r)
	if err != nil || size > maxHeader {
		return s, fmt.Errorf("%w: no header", ErrDamaged)
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(b, header); err != nil {
		return s, fmt.Errorf("%w: its header is cut off", ErrDamaged)
	}
	if err := decoding.Unmarshal(header, &s.Header); err != nil {
		return s, fmt.Errorf("%w: its header: %w", ErrDamaged, err)
	}
	return s, nil
}

// body reads all of a file but the SHA-256 at its end, and adds it up.
type body struct {
	r    *bufio.Reader
	sum  hash.Hash
	size int64
	err  error // of the file, other than its end
}

func newBody(in io.Reader) *body {
	return &body{r: bufio.NewReaderSize(in, 64<<10), sum: sha256.New()}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	want := min(len(p), b.r.Size()-sha256.Size)
	got, err := b.r.Peek(want + sha256.Size)
	n := len(got) - sha256.Size
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
		return 0, err
	}
	if n <= 0 {
		return 0, io.EOF
	}
	copy(p, got[:n])
	b.sum.Write(got[:n])
	b.size += int64(n)
	_, err = b.r.Discard(n)
	return n, err
}

// finish reads what is left, and returns the summary of a file that is what was
// written. Otherwise it returns why it is not, or the fault that was found so far.
func (b *body) finish(s Summary, fault error) (Summary, error) {
	if !errors.Is(fault, ErrNot) {
		_, _ = io.Copy(io.Discard, b) // the file's errors are kept
	}
	switch {
	case b.err != nil:
		return s, fmt.Errorf("read backup: %w", b.err)
	case errors.Is(fault, ErrNot):
		return s, fault
	}
	trailer, _ := b.r.Peek(sha256.Size) // that there is none shows
	s.Sum = [sha256.Size]byte(b.sum.Sum(nil))
	s.Size = b.size + int64(len(trailer))
	if !bytes.Equal(trailer, s.Sum[:]) {
		return s, fmt.Errorf("%w: it was cut off or altered, as its SHA-256 shows", ErrDamaged)
	}
	return s, fault
}

// byteReader reads varints.
type byteReader struct{ io.Reader }

// ReadByte implements io.ByteReader.
func (r byteReader) ReadByte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r.Reader, b[:])
	return b[0], err
}
