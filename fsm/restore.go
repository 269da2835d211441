package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"lockstep/objects"
)

// readSnapshot reads and verifies a whole snapshot. One goroutine takes it to
// records, some decode those of which there are many, one makes a state of them, and one
// the index of objects while items are read: what comes out does not depend on which is
// ahead.
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

// stretch is some records of a snapshot, one behind the other, each behind its head.
// Objects and items are decoded before they come to the loader.
type stretch struct {
	bytes   []byte
	records []place
	objects []weighed[*storedObject] // in their order
	items   []weighed[*objects.Item] // likewise
	decoded chan struct{}            // one slot
}

// weighed is a decoded record with its size and hash.
type weighed[T any] struct {
	record T
	size   int64
	hash   hash64
	err    error // what was wrong with it
}

// place is where a record is in a stretch.
type place struct {
	is         recordType
	begin, end int
}

const (
	stretchBytes = maxRecord + 1 + binary.MaxVarintLen64 // any record fits, with its head
	stretches    = 4                                     // that are read ahead
)

// recordReader takes a snapshot to records.
type recordReader struct {
	r       io.Reader
	rest    []byte // of the stretch before, the beginning of a record
	records uint64

	read  chan *stretch // which may still be decoded; closed when there are no more
	used  chan *stretch
	ended chan struct{} // closed when nobody takes any
}

func newRecordReader(r io.Reader) *recordReader {
	read := &recordReader{
		r:    r,
		read: make(chan *stretch, stretches), used: make(chan *stretch, stretches), ended: make(chan struct{}),
	}
	for range stretches {
		read.used <- &stretch{decoded: make(chan struct{}, 1)}
	}
	return read
}

// run reads all records and compares them with the trailer. Each stretch is decoded in
// a goroutine of its own.
func (r *recordReader) run() error {
	defer close(r.read)
	var work sync.WaitGroup
	defer work.Wait()
	for {
		select {
		case s := <-r.used:
			complete, err := r.fill(s)
			if err != nil {
				return err
			}
			work.Go(s.decode)
			r.read <- s // which has room for all there are
			if complete {
				return nil
			}
		case <-r.ended:
			return nil
		}
	}
}

// decode decodes the objects and items.
func (s *stretch) decode() {
	s.objects, s.items = s.objects[:0], s.items[:0]
	for _, x := range s.records {
		switch x.is {
		case recordObject:
			s.objects = append(s.objects, weigh(s.bytes[x.begin:x.end], storedObjectSize, hashObject))
		case recordItem:
			s.items = append(s.items, weigh(s.bytes[x.begin:x.end], itemSize, hashItem))
		}
	}
	s.decoded <- struct{}{}
}

// weigh decodes a record and weighs it.
func weigh[T any](record []byte, size func(*T) int64, hash func(*T) hash64) weighed[*T] {
	x := new(T)
	if err := decode(record, x); err != nil {
		return weighed[*T]{err: err}
	}
	return weighed[*T]{record: x, size: size(x), hash: hash(x)}
}

// fill reads a stretch, and reports whether it is the last one.
func (r *recordReader) fill(s *stretch) (last bool, err error) {
	if s.bytes == nil {
		s.bytes = make([]byte, stretchBytes)
	}
	old := copy(s.bytes, r.rest)
	n, err := io.ReadFull(r.r, s.bytes[old:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false, err
	}
	all := s.bytes[:old+n]
	s.records = s.records[:0]
	begin := 0
	for {
		x, err := cutRecord(all, begin)
		if err != nil {
			return false, err
		}
		if x.end > len(all) {
			break
		}
		if x.is == recordTrailer {
			return true, r.compare(all[x.begin:x.end])
		}
		s.records = append(s.records, x)
		r.records++
		begin = x.end
	}
	if err != nil {
		return false, io.ErrUnexpectedEOF
	}
	r.rest = all[begin:] // which nobody writes to before the next stretch is filled
	return false, nil
}

// cutRecord returns the place of the record whose head is at begin. It ends behind
// all if it is not there as a whole.
func cutRecord(all []byte, begin int) (place, error) {
	if begin == len(all) {
		return place{end: begin + 1}, nil
	}
	size, n := binary.Uvarint(all[begin+1:])
	if n < 0 || size > maxRecord {
		return place{}, fmt.Errorf("record of %d bytes", size)
	}
	if n == 0 {
		return place{end: len(all) + 1}, nil
	}
	x := place{is: recordType(all[begin]), begin: begin + 1 + n}
	x.end = x.begin + int(size)
	return x, nil
}

// compare reads the trailer.
func (r *recordReader) compare(record []byte) error {
	var end trailer
	if err := decoding.Unmarshal(record, &end); err != nil {
		return err
	}
	if end.Records != r.records {
		return fmt.Errorf("%d records of %d", r.records, end.Records)
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
	r := newRecordReader(from)
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
		<-s.decoded
		objects, items := s.objects, s.items
		for _, x := range s.records {
			var err error
			switch x.is {
			case recordObject:
				err, objects = l.loadObject(objects[0]), objects[1:]
			case recordItem:
				err, items = l.loadItem(items[0]), items[1:]
			default:
				err = l.load(x.is, s.bytes[x.begin:x.end])
			}
			if err != nil {
				return err
			}
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
	case recordService:
		if l.indexed {
			return errDisorder
		}
		return loadInto(v.services, record)
	}
	l.indexObjects()
	switch t {
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

func (l *loader) loadObject(x weighed[*storedObject]) error {
	if l.indexed {
		return errDisorder
	}
	return loadWeighed(l.view.objects, x)
}

func (l *loader) loadItem(x weighed[*objects.Item]) error {
	l.indexObjects()
	return loadWeighed(l.view.items, x)
}

func loadWeighed[T any](t *table[T], x weighed[T]) error {
	if x.err != nil {
		return x.err
	}
	return t.loadWeighed(x.record, x.size, x.hash)
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
		sids = append(sids, sidEntryOf(s.SID, 0, s.Num))
		if s.UniqueName != "" {
			names = append(names, nameEntryOf(0, objects.KindService, s.UniqueName, s.Num))
		}
		return true
	})
	var of usage // of the objects seen last
	v.objects.Scan(func(o *storedObject) bool {
		sids = append(sids, sidEntryOf(o.SID, o.Service, o.Num))
		if o.UniqueName != "" {
			names = append(names, nameEntryOf(o.Service, o.Kind(), o.UniqueName, o.Num))
		}
		if o.Service != of.service {
			v.charge(of.service, of.bytes)
			of = usage{service: o.Service}
		}
		of.bytes += footprint(o)
		return true
	})
	v.charge(of.service, of.bytes)
	sortBySID(sids)
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
