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
	"slices"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"lockstep/objects"
)

// readSnapshot reads and verifies a whole snapshot. One goroutine takes it to
// records, another one makes a state of them, and a third one makes the index of
// objects while items are read: what comes out does not depend on which is ahead.
func readSnapshot(in io.Reader) (*View, []storedWindow, error) {
	r := bufio.NewReaderSize(in, 1<<16)
	level, err := readHead(r)
	if err != nil {
		return nil, nil, err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	defer z.Close()
	l := &loader{view: newView()}
	if err := l.read(z); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if l.view.sum() != l.view.meta.Sum {
		return nil, nil, fmt.Errorf("%w: when it was written: %w", ErrSnapshot, ErrAltered)
	}
	if level != l.view.Level() {
		return nil, nil, fmt.Errorf("%w: its head does not match its state", ErrSnapshot)
	}
	return l.view, l.windows, nil
}

// stretch is some records of a snapshot, one behind the other.
type stretch struct {
	bytes   []byte
	records []recordHead
}

type recordHead struct {
	is   recordType
	size int
}

const (
	stretchBytes = 256 << 10 // about as long is a stretch
	stretches    = 4         // that are read ahead
)

// recordReader takes a snapshot to records.
type recordReader struct {
	r       *bufio.Reader
	sum     hash.Hash
	records uint64
	head    []byte

	read  chan *stretch // closed when there are no more
	used  chan *stretch
	ended chan struct{} // closed when nobody takes any
}

// run reads all records and compares them with the trailer.
func (r *recordReader) run() error {
	defer close(r.read)
	for {
		var s *stretch
		select {
		case s = <-r.used:
			s.bytes, s.records = s.bytes[:0], s.records[:0]
		case <-r.ended:
			return nil
		}
		last, err := r.fill(s)
		if err != nil {
			return err
		}
		r.read <- s // which has room for all there are
		if last {
			return nil
		}
	}
}

// fill reads a stretch, and reports whether it is the last one.
func (r *recordReader) fill(s *stretch) (last bool, err error) {
	for len(s.bytes) < stretchBytes {
		t, record, err := r.next(s)
		if err != nil {
			return false, err
		}
		if t == recordTrailer {
			return true, r.compare(record)
		}
		r.head = binary.AppendUvarint(append(r.head[:0], byte(t)), uint64(len(record)))
		r.sum.Write(r.head)
		r.sum.Write(record)
		r.records++
		s.records = append(s.records, recordHead{t, len(record)})
	}
	return false, nil
}

// next reads a record behind the bytes of a stretch.
func (r *recordReader) next(s *stretch) (recordType, []byte, error) {
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
	begin := len(s.bytes)
	s.bytes = slices.Grow(s.bytes, int(size))[:begin+int(size)]
	record := s.bytes[begin:]
	_, err = io.ReadFull(r.r, record)
	return recordType(t), record, err
}

// compare reads the trailer.
func (r *recordReader) compare(record []byte) error {
	var end trailer
	if err := decoding.Unmarshal(record, &end); err != nil {
		return err
	}
	if end.Records != r.records || !bytes.Equal(end.Sum, r.sum.Sum(nil)) {
		return errors.New("checksum does not match")
	}
	return nil
}

// loader builds a view from records.
type loader struct {
	view    *View
	windows []storedWindow

	group   errgroup.Group
	indexed bool // the objects are all there, and being indexed
}

// read builds the view from a snapshot.
func (l *loader) read(from io.Reader) error {
	r := &recordReader{
		r: bufio.NewReaderSize(from, 1<<18), sum: sha256.New(),
		read: make(chan *stretch, stretches), used: make(chan *stretch, stretches), ended: make(chan struct{}),
	}
	for range stretches {
		r.used <- new(stretch)
	}
	l.group.Go(r.run)
	err := l.loadAll(r)
	close(r.ended)
	// What came of records that are not those which were written says nothing.
	if damaged := l.group.Wait(); damaged != nil {
		return damaged
	}
	return err
}

func (l *loader) loadAll(r *recordReader) error {
	for s := range r.read {
		record := s.bytes
		for _, x := range s.records {
			if err := l.load(x.is, record[:x.size]); err != nil {
				return err
			}
			record = record[x.size:]
		}
		r.used <- s
	}
	l.indexObjects()
	return l.view.indexParts()
}

// indexObjects is called when all services and objects are there.
func (l *loader) indexObjects() {
	if !l.indexed {
		l.indexed = true
		l.group.Go(l.view.indexObjects)
	}
}

func (l *loader) load(t recordType, record []byte) error {
	v := l.view
	switch t {
	case recordMeta:
		return decoding.Unmarshal(record, &v.meta)
	case recordService, recordObject:
		switch {
		case l.indexed:
			return errDisorder
		case t == recordService:
			return loadInto(v.services, record)
		}
		return loadInto(v.objects, record)
	}
	l.indexObjects()
	switch t {
	case recordItem:
		return loadInto(v.items, record)
	case recordTombstone:
		return loadInto(v.tombstones, record)
	case recordPermission:
		return loadInto(v.permissions, record)
	case recordKey:
		return loadInto(v.keys, record)
	case recordExpiry:
		return loadValue(v.expiries, record)
	case recordGarbage:
		return loadValue(v.garbage, record)
	case recordDelivery:
		return loadInto(v.outbox, record)
	case recordEndpoint:
		return loadValue(v.endpoints, record)
	case recordSealed:
		return loadInto(v.sealed, record)
	case recordLease:
		return loadValue(v.leases, record)
	case recordDurable:
		return loadInto(v.durables, record)
	case recordProducer:
		return loadInto(v.producers, record)
	case recordHolder:
		return loadInto(v.holders, record)
	case recordHold:
		return loadValue(v.holds, record)
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

// loadInto adds a record to a table of pointers to them.
func loadInto[T any](t *table[*T], record []byte) error {
	x := new(T)
	if err := decode(record, x); err != nil {
		return err
	}
	if x, ok := any(x).(*Tombstone); ok && x.Item == nil {
		return errors.New("a removal without the item")
	}
	return t.load(x)
}

// loadValue adds a record to a table of records themselves.
func loadValue[T any](t *table[T], record []byte) error {
	var x T
	if err := decode(record, &x); err != nil {
		return err
	}
	return t.load(x)
}

// indexObjects fills the tables that are made of services and objects.
func (v *View) indexObjects() error {
	sids := make([]sidEntry, 0, v.services.Len()+v.objects.Len())
	names := make([]nameEntry, 0, cap(sids))
	v.services.Scan(func(s *objects.Service) bool {
		sids = append(sids, sidEntry{sid: s.SID, num: s.Num})
		if s.UniqueName != "" {
			names = append(names, nameEntry{kind: objects.KindService, name: s.UniqueName, num: s.Num})
		}
		return true
	})
	var of usage // of the objects seen last
	v.objects.Scan(func(o *storedObject) bool {
		sids = append(sids, sidEntry{sid: o.SID, service: o.Service, num: o.Num})
		if o.UniqueName != "" {
			names = append(names, nameEntry{service: o.Service, kind: o.Kind(), name: o.UniqueName, num: o.Num})
		}
		if o.Service != of.service {
			v.charge(of.service, of.bytes)
			of = usage{service: o.Service}
		}
		of.bytes += footprint(o)
		return true
	})
	v.charge(of.service, of.bytes)
	return errors.Join(v.sids.fill(sids), v.names.fill(names))
}

// indexParts fills the other tables that are made of others.
func (v *View) indexParts() error {
	if err := v.indexChanges(); err != nil {
		return err
	}
	v.tombstones.Scan(func(t *Tombstone) bool {
		v.byAge.Set(t)
		return true
	})
	v.expiries.Scan(func(e expiry) bool {
		if e.Kind == objects.KindNone {
			v.absences.Set(e)
		}
		return true
	})
	v.outbox.Scan(func(d *Delivery) bool {
		v.waiting.Set(d)
		v.weigh(d, 1)
		return true
	})
	v.endpoints.Scan(func(e Endpoint) bool {
		v.connections.Set(e)
		return true
	})
	v.holders.Scan(func(h *Holder) bool {
		if h.Until != 0 {
			v.lapses.Set(h)
		}
		return true
	})
	v.holds.Scan(func(x hold) bool {
		v.held.Set(x)
		return true
	})
	return nil
}

// indexChanges fills the table of items by their last change, one collection after
// another.
func (v *View) indexChanges() (err error) {
	var of []*objects.Item // the items of a collection
	v.items.Scan(func(i *objects.Item) bool {
		if len(of) > 0 && of[0].Object != i.Object {
			err = v.changes.fill(of)
			of = of[:0]
		}
		of = append(of, i)
		return err == nil
	})
	return errors.Join(err, v.changes.fill(of))
}
