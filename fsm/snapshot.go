package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A snapshot is the magic, the format level of the state as a varint, then one
// zstd stream of records: a type byte, the length as a varint, the record in CBOR.
// The last record is the trailer, the number of records before it. Equal states give
// equal bytes.
//
// That it is what was written shows by the checksum of the zstd stream, and by the sum
// of the state (see View.sum). Whoever keeps it has a checksum besides: raft's store of
// the file, and a backup of all of it.
var snapshotMagic = []byte("LOCKSTEP")

// recordType numbers the records of a snapshot: never reuse a number.
type recordType uint8

const (
	recordMeta       recordType = 1
	recordService    recordType = 2
	recordObject     recordType = 3
	recordItem       recordType = 4
	recordTombstone  recordType = 5
	recordPermission recordType = 6
	recordKey        recordType = 7
	recordExpiry     recordType = 8
	recordGarbage    recordType = 9
	recordDelivery   recordType = 10
	recordEndpoint   recordType = 11
	recordWindow     recordType = 12
	recordChunk      recordType = 14 // 13 was one command of a window
	recordSealed     recordType = 15
	recordLease      recordType = 16
	recordDurable    recordType = 17
	recordProducer   recordType = 18
	recordHolder     recordType = 19
	recordHold       recordType = 20
	recordTrailer    recordType = 255
)

// maxRecord bounds what a reader allocates for one record.
const maxRecord = 1 << 20

// ErrSnapshot is wrapped by every failure to read a snapshot.
var ErrSnapshot = errors.New("fsm: not a snapshot this version can read")

type trailer struct {
	Records uint64 `cbor:"1,keyasint"` // 2 was their SHA-256
}

// WriteSnapshot writes the present state, the dedup window included, in the
// form of raft's snapshots. It must not run beside Apply: it is for tests and
// offline tools; a running node goes through Snapshot.
func (f *FSM) WriteSnapshot(w io.Writer) error {
	return writeSnapshot(w, f.View(), f.dedup.snapshot())
}

// snapshotBuffers are what writing a snapshot needs: some ten megabytes, which take
// longer to make than a small state to write.
type snapshotBuffers struct {
	out *bufio.Writer
	z   *zstd.Encoder
}

// unused are snapshotBuffers.
var unused sync.Pool

func buffersFor(w io.Writer) (*snapshotBuffers, error) {
	if b, ok := unused.Get().(*snapshotBuffers); ok {
		b.out.Reset(w)
		b.z.Reset(b.out)
		return b, nil
	}
	out := bufio.NewWriterSize(w, 1<<20)
	z, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	return &snapshotBuffers{out, z}, err
}

func (b *snapshotBuffers) release() {
	b.out.Reset(nil)
	b.z.Reset(nil)
	unused.Put(b)
}

func writeSnapshot(w io.Writer, v *View, windows []storedWindow) error {
	b, err := buffersFor(w)
	if err != nil {
		return err
	}
	defer b.release()
	b.out.Write(binary.AppendUvarint(bytes.Clone(snapshotMagic), uint64(v.Level())))
	if err := writeRecords(b.z, v, windows); err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	if err := b.z.Close(); err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	if err := b.out.Flush(); err != nil {
		return fmt.Errorf("fsm: write snapshot: %w", err)
	}
	return nil
}

// writeRecords writes the records of a state, the trailer last, unless they are
// not what was put there.
func writeRecords(w io.Writer, v *View, windows []storedWindow) error {
	rw, all := &recordWriter{w: w}, hash64(0)
	rw.write(recordMeta, v.meta)
	writeAll(rw, recordService, v.services, &all)
	writeAll(rw, recordObject, v.objects, &all)
	writeAll(rw, recordItem, v.items, &all)
	writeAll(rw, recordTombstone, v.tombstones, &all)
	writeAll(rw, recordPermission, v.permissions, &all)
	writeAll(rw, recordKey, v.keys, &all)
	writeAll(rw, recordExpiry, v.expiries, &all)
	writeAll(rw, recordGarbage, v.garbage, &all)
	writeAll(rw, recordDelivery, v.outbox, &all)
	writeAll(rw, recordEndpoint, v.endpoints, &all)
	writeAll(rw, recordSealed, v.sealed, &all)
	writeAll(rw, recordLease, v.leases, &all)
	writeAll(rw, recordDurable, v.durables, &all)
	writeAll(rw, recordProducer, v.producers, &all)
	writeAll(rw, recordHolder, v.holders, &all)
	writeAll(rw, recordHold, v.holds, &all)
	if rw.err == nil && all != v.meta.Sum {
		return ErrAltered
	}
	for _, win := range windows {
		rw.write(recordWindow, win)
		for _, ch := range win.chunks {
			rw.write(recordChunk, ch.stored())
		}
	}
	rw.write(recordTrailer, trailer{Records: rw.records})
	return rw.err
}

// writeAll writes the records of a table and adds their hashes to a sum.
func writeAll[T any](w *recordWriter, t recordType, records *table[T], all *hash64) {
	records.Scan(func(x T) bool {
		w.write(t, x)
		*all += records.hash(x)
		return w.err == nil
	})
}

type recordWriter struct {
	w       io.Writer
	records uint64
	head    []byte
	buf     []byte
	err     error
}

func (w *recordWriter) write(t recordType, x any) {
	if w.err != nil {
		return
	}
	if w.buf, w.err = encode(w.buf[:0], x); w.err != nil {
		return
	}
	w.head = binary.AppendUvarint(append(w.head[:0], byte(t)), uint64(len(w.buf)))
	for _, part := range [][]byte{w.head, w.buf} {
		if _, w.err = w.w.Write(part); w.err != nil {
			return
		}
	}
	w.records++
}

// CheckSnapshot reads the head of a snapshot, and reports whether this release
// can read the rest: ErrNewer is one of a newer release.
func CheckSnapshot(r io.Reader) error {
	_, err := readHead(bufio.NewReader(r))
	return err
}

// readHead returns the level of a snapshot's state.
func readHead(r *bufio.Reader) (Level, error) {
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if !bytes.Equal(magic, snapshotMagic) {
		return 0, fmt.Errorf("%w: unknown format", ErrSnapshot)
	}
	level, err := binary.ReadUvarint(r)
	if err != nil || level == 0 || level > uint64(^Level(0)) {
		return 0, fmt.Errorf("%w: no format level", ErrSnapshot)
	}
	if err := Level(level).check(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return Level(level), nil
}
