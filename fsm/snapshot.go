package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"lockstep/objects"
)

// A snapshot is the magic, the format level of the state as a varint, then one
// zstd stream of records: a type byte, the length as a varint, the record in CBOR.
// The last record is the trailer: the number of records before it and their
// SHA-256. Equal states give equal bytes.
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
	Records uint64 `cbor:"1,keyasint"`
	Sum     []byte `cbor:"2,keyasint"`
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
	rw, all := &recordWriter{w: w, sum: sha256.New()}, hash64(0)
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
	rw.write(recordTrailer, trailer{Records: rw.records, Sum: rw.sum.Sum(nil)})
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
	sum     hash.Hash
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
		w.sum.Write(part)
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

// readSnapshot reads and verifies a whole snapshot.
func readSnapshot(in io.Reader) (*View, []storedWindow, error) {
	r := bufio.NewReaderSize(in, 1<<16)
	level, err := readHead(r)
	if err != nil {
		return nil, nil, err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	defer z.Close()
	l := &loader{view: newView()}
	rr := &recordReader{r: bufio.NewReaderSize(z, 1<<16), sum: sha256.New()}
	for {
		t, record, err := rr.next()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
		if t != recordTrailer {
			rr.count(t, record)
			if err := l.load(t, record); err != nil {
				return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
			}
			continue
		}
		var end trailer
		if err := decoding.Unmarshal(record, &end); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
		if end.Records != rr.records || !bytes.Equal(end.Sum, rr.sum.Sum(nil)) {
			return nil, nil, fmt.Errorf("%w: checksum does not match", ErrSnapshot)
		}
		if l.view.sum() != l.view.meta.Sum {
			return nil, nil, fmt.Errorf("%w: when it was written: %w", ErrSnapshot, ErrAltered)
		}
		if level != l.view.Level() {
			return nil, nil, fmt.Errorf("%w: its head does not match its state", ErrSnapshot)
		}
		return l.view, l.windows, nil
	}
}

type recordReader struct {
	r       *bufio.Reader
	sum     hash.Hash
	records uint64
	head    []byte
	buf     []byte
}

// next returns the next record; its bytes are valid until the next call.
func (r *recordReader) next() (recordType, []byte, error) {
	t, err := r.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	size, err := binary.ReadUvarint(r.r)
	if err != nil {
		return 0, nil, err
	}
	if size > maxRecord {
		return 0, nil, fmt.Errorf("record of %d bytes", size)
	}
	if uint64(cap(r.buf)) < size {
		r.buf = make([]byte, size)
	}
	r.buf = r.buf[:size]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return 0, nil, err
	}
	return recordType(t), r.buf, nil
}

// count adds a record to what the trailer is compared with.
func (r *recordReader) count(t recordType, record []byte) {
	r.head = binary.AppendUvarint(append(r.head[:0], byte(t)), uint64(len(record)))
	r.sum.Write(r.head)
	r.sum.Write(record)
	r.records++
}

// loader builds a view from records.
type loader struct {
	view    *View
	windows []storedWindow
}

func (l *loader) load(t recordType, record []byte) error {
	v := l.view
	switch t {
	case recordMeta:
		return decoding.Unmarshal(record, &v.meta)
	case recordService:
		return loadInto(record, func(s *objects.Service) {
			v.services.Set(s)
			v.sids.Set(sidEntry{sid: s.SID, num: s.Num})
			if s.UniqueName != "" {
				v.names.Set(nameEntry{kind: objects.KindService, name: s.UniqueName, num: s.Num})
			}
		})
	case recordObject:
		return loadInto(record, func(o *storedObject) {
			v.objects.Set(o)
			v.charge(o.Service, footprint(o))
			v.sids.Set(sidEntry{sid: o.SID, service: o.Service, num: o.Num})
			if o.UniqueName != "" {
				v.names.Set(nameEntry{service: o.Service, kind: o.Kind(), name: o.UniqueName, num: o.Num})
			}
		})
	case recordItem:
		return loadInto(record, func(i *objects.Item) {
			v.items.Set(i)
			v.changes.Set(i)
		})
	case recordTombstone:
		return loadInto(record, func(x *Tombstone) {
			v.tombstones.Set(x)
			v.byAge.Set(x)
		})
	case recordPermission:
		return loadInto(record, func(x *objects.Permission) { v.permissions.Set(x) })
	case recordKey:
		return loadInto(record, func(x *objects.APIKey) { v.keys.Set(x) })
	case recordExpiry:
		return loadInto(record, func(x *expiry) { v.setExpiry(*x) })
	case recordGarbage:
		return loadInto(record, func(x *garbage) { v.garbage.Set(*x) })
	case recordDelivery:
		return loadInto(record, func(x *Delivery) { v.addDelivery(x) })
	case recordEndpoint:
		return loadInto(record, func(x *Endpoint) { v.setEndpoint(*x) })
	case recordSealed:
		return loadInto(record, func(x *Sealed) { v.sealed.Set(x) })
	case recordLease:
		return loadInto(record, func(x *Lease) { v.leases.Set(*x) })
	case recordDurable:
		return loadInto(record, func(x *Durable) { v.durables.Set(x) })
	case recordProducer:
		return loadInto(record, func(x *knownProducer) { v.producers.Set(x) })
	case recordHolder:
		return loadInto(record, func(x *Holder) { v.setHolder(x) })
	case recordHold:
		return loadInto(record, func(x *hold) { v.setHold(*x) })
	case recordWindow:
		var w storedWindow
		if err := decoding.Unmarshal(record, &w); err != nil {
			return err
		}
		if w.Kind >= windowKinds {
			return fmt.Errorf("dedup window %d: written by a newer release", w.Kind)
		}
		l.windows = append(l.windows, w)
		return nil
	case recordChunk:
		return l.loadChunk(record)
	}
	return fmt.Errorf("record type %d: written by a newer release", t)
}

func (l *loader) loadChunk(record []byte) error {
	if len(l.windows) == 0 {
		return errors.New("remembered commands without a window")
	}
	var s storedChunk
	if err := decoding.Unmarshal(record, &s); err != nil {
		return err
	}
	ch, err := s.chunk()
	if err != nil {
		return err
	}
	last := &l.windows[len(l.windows)-1]
	last.chunks = append(last.chunks, ch)
	return nil
}

func loadInto[T any](record []byte, put func(*T)) error {
	x := new(T)
	if err := decode(record, x); err != nil {
		return err
	}
	put(x)
	return nil
}
