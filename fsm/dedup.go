package fsm

import (
	"encoding/binary"
	"fmt"
	"sync"

	"lockstep/objects"
)

// windowKind numbers the windows in snapshots.
type windowKind uint8

const (
	// nodeWindow has the commands whose id a node made up. A copy of one carries
	// the log position at which the id was made, so forgetting is always safe:
	// what may have been forgotten is refused.
	nodeWindow windowKind = 0
	// requestWindow has those whose id is that of a request of a realtime
	// session. The official client repeats one for 90 seconds.
	requestWindow windowKind = 1
	// keyWindow has those with an idempotency key of a REST client.
	keyWindow windowKind = 2

	windowKinds = 3
)

// windowMillis is how long each window remembers: all nodes must agree.
var windowMillis = [windowKinds]int64{
	nodeWindow:    2 * 60 * 1000,
	requestWindow: 2 * 60 * 1000,
	keyWindow:     10 * 60 * 1000,
}

const (
	// windowEntries is how many log entries each window remembers whatever the
	// time.
	windowEntries = 4096
	// maxRecords bounds the commands in the windows of keys, together, and in
	// the window of nodes. One costs recordBytes, its place in the index
	// included. A key is never forgotten before its time: when there is no room,
	// new keys are refused.
	maxRecords = 2 << 20
	// keyShare is how many times as many keys one service may have remembered as
	// there is room left. A service that is alone gets three quarters of the room,
	// each of two that take what they get three sevenths: some is always left for
	// those that hold little.
	keyShare = 3
	// maxAnswers bounds the bytes of answers that each window keeps. Of commands
	// beyond it a window of keys remembers only that they were carried out; the
	// window of nodes forgets them.
	maxAnswers = 32 << 20

	// A chunk is full with this many commands or bytes of answers.
	chunkRecords = 1024
	chunkAnswers = 256 << 10
)

// dedup remembers recent commands by id, in the order in which they were
// decided. The apply goroutine writes; others look up.
//
// It forgets by whole chunks, so an id is remembered for at least its window.
type dedup struct {
	mu      sync.RWMutex
	byID    map[CommandID]uint32 // to the number of the chunk; no pointers, for the collector's sake
	chunks  map[uint32]*chunk
	windows [windowKinds]window
	keys    map[uint64]int // in the windows of keys, by the number of the service
	next    uint32         // number of the next chunk
	answer  []byte         // the one being remembered

	maxRecords int   // as the constants, but in tests
	maxAnswers int64 // likewise
}

// window is one queue of chunks, oldest first.
type window struct {
	floor   uint64 // log index of the newest command forgotten
	chunks  []*chunk
	records int
	answers int64 // bytes
	bare    int   // of the oldest chunks, how many have no answers any more
}

// chunk is some commands decided one after another. Its slices only ever grow,
// so that a copy of it is a view of what it was.
type chunk struct {
	number  uint32
	oldest  int64  // time of the first command
	newest  int64  // and of the last one
	index   uint64 // log index of the last one
	records []record
	answers []byte // their results, encoded; nil once dropped
}

// record is one command.
type record struct {
	id          CommandID
	fingerprint [8]byte // of Command.Fingerprint
	service     uint64  // number of its service; 0: none
	end         uint32  // of its result in the chunk's answers
	refused     bool
}

func newDedup() *dedup {
	return &dedup{
		byID: make(map[CommandID]uint32), chunks: make(map[uint32]*chunk), keys: make(map[uint64]int),
		maxRecords: maxRecords, maxAnswers: maxAnswers,
	}
}

// windowOf names the window of a command.
func windowOf(c *Command) windowKind {
	switch {
	case !c.ClientChosen:
		return nodeWindow
	case c.Actor.Token:
		return requestWindow
	}
	return keyWindow
}

// lookup returns the result of a command that is remembered.
func (d *dedup) lookup(id CommandID) (*Result, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	ch, at := d.find(id)
	if ch == nil {
		return nil, false
	}
	if r := ch.answer(at); r != nil {
		return r, true
	}
	return &Result{Err: objects.ErrAnswerGone}, true
}

// find returns the chunk that has a command, and its place there.
func (d *dedup) find(id CommandID) (*chunk, int) {
	number, ok := d.byID[id]
	if !ok {
		return nil, 0
	}
	ch := d.chunks[number]
	for at := len(ch.records) - 1; at >= 0; at-- {
		if ch.records[at].id == id {
			return ch, at
		}
	}
	panic("fsm: a remembered command is not in its chunk")
}

// answer decodes the result of a chunk's command; nil when it was dropped.
func (ch *chunk) answer(at int) *Result {
	if ch.answers == nil {
		return nil
	}
	start := uint32(0)
	if at > 0 {
		start = ch.records[at-1].end
	}
	r, err := DecodeResult(ch.answers[start:ch.records[at].end])
	if err != nil {
		panic(err) // this package wrote it, and snapshots have a checksum
	}
	return r
}

// check returns the earlier result of a command to a service, or a refusal, or
// neither when the command is new. A command that is remembered is the same one, whatever
// its age: age is the cluster's clock, which a log position is not.
func (d *dedup) check(c *Command, service uint64) (*Result, *objects.Error) {
	if ch, at := d.find(c.ID); ch != nil {
		r := ch.records[at]
		if r.fingerprint != shortFingerprint(c) {
			return nil, objects.ErrMoreThanOnce
		}
		if known := ch.answer(at); known != nil {
			return known, nil
		}
		if !r.refused {
			return nil, objects.ErrAnswerGone
		}
		return nil, nil // it changed nothing, so it may be decided anew
	}
	if d.windows[windowOf(c)].floor > c.Issued {
		return nil, objects.ErrUnknownWriter
	}
	if c.ClientChosen {
		return nil, d.roomForKey(service)
	}
	return nil, nil
}

var errKeysOfService = objects.ErrKeysFull.With("The service has as many writes with an idempotency key remembered as leaves room for those of others; none is forgotten before its time")

// roomForKey refuses a new key of a service when there is no room left, or when
// the service has its share of it.
func (d *dedup) roomForKey(service uint64) *objects.Error {
	room := d.maxRecords - d.windows[requestWindow].records - d.windows[keyWindow].records
	switch {
	case room <= 0:
		return objects.ErrKeysFull
	case d.keys[service] >= keyShare*room:
		return errKeysOfService
	}
	return nil
}

func shortFingerprint(c *Command) [8]byte { return [8]byte(c.Fingerprint[:8]) }

// remember adds a command to a service that was just decided. It returns the answer as it is
// kept, valid until the next one.
func (d *dedup) remember(c *Command, service uint64, now int64, r Result) []byte {
	if !keepsData(c.Op) {
		r = r.withoutData()
	}
	answer, err := r.Append(d.answer[:0])
	if err != nil {
		panic(err) // results are plain values
	}
	d.answer = answer
	kind := windowOf(c)
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &d.windows[kind]
	ch := d.open(kind, now)
	ch.answers = append(ch.answers, answer...)
	ch.records = append(ch.records, record{id: c.ID, fingerprint: shortFingerprint(c), service: service, end: uint32(len(ch.answers)), refused: r.Err != nil})
	ch.newest, ch.index = now, r.Index
	d.byID[c.ID] = ch.number
	if kind != nodeWindow {
		d.keys[service]++
	}
	w.records++
	w.answers += int64(len(answer))
	for w.answers > d.maxAnswers || (kind == nodeWindow && w.records > d.maxRecords) {
		if kind == nodeWindow {
			d.forgetOldest(kind)
		} else {
			w.dropAnswers()
		}
	}
	return answer
}

// open returns the chunk of a window that takes the next command: the last one,
// unless it is full or spans half the time of its window.
func (d *dedup) open(kind windowKind, now int64) *chunk {
	w := &d.windows[kind]
	if n := len(w.chunks); n > w.bare {
		last := w.chunks[n-1]
		if len(last.records) < chunkRecords && len(last.answers) < chunkAnswers && now-last.oldest <= windowMillis[kind]/2 {
			return last
		}
	}
	ch := &chunk{oldest: now, records: make([]record, 0, chunkRecords), answers: make([]byte, 0, chunkAnswers/4)}
	d.add(w, ch)
	return ch
}

func (d *dedup) add(w *window, ch *chunk) {
	ch.number = d.next
	d.next++
	d.chunks[ch.number] = ch
	w.chunks = append(w.chunks, ch)
}

// dropAnswers forgets the answers of the oldest chunk that has some.
func (w *window) dropAnswers() {
	ch := w.chunks[w.bare]
	w.bare++
	w.answers -= int64(len(ch.answers))
	ch.answers = nil
}

func (d *dedup) forgetOldest(kind windowKind) {
	w := &d.windows[kind]
	ch := w.chunks[0]
	w.chunks[0] = nil
	w.chunks = w.chunks[1:]
	w.bare = max(0, w.bare-1)
	w.floor = ch.index
	w.records -= len(ch.records)
	w.answers -= int64(len(ch.answers))
	delete(d.chunks, ch.number)
	for _, r := range ch.records {
		if d.byID[r.id] == ch.number { // else it was decided again later
			delete(d.byID, r.id)
		}
		if kind == nodeWindow {
			continue
		}
		if d.keys[r.service]--; d.keys[r.service] == 0 {
			delete(d.keys, r.service)
		}
	}
}

// expire forgets commands whose time is over: at most one chunk of each window
// at a time, and none of the last log entries, so that a step of the cluster's
// clock forgets nothing that may still be on its way.
func (d *dedup) expire(now int64, index uint64) {
	for kind := range windowKind(windowKinds) {
		w := &d.windows[kind]
		if len(w.chunks) == 0 {
			continue
		}
		if oldest := w.chunks[0]; now-oldest.newest > windowMillis[kind] && index-oldest.index > windowEntries {
			d.mu.Lock()
			d.forgetOldest(kind)
			d.mu.Unlock()
		}
	}
}

// WindowStats is the size of one dedup window, for metrics.
type WindowStats struct {
	Name           string
	Commands       int
	Bytes          int64 // about what it takes in memory
	Oldest         int64 // time of the oldest command, in Unix milliseconds; 0: none
	OldestAnswered int64 // and of the oldest one whose answer is kept
}

func (d *dedup) stats() []WindowStats {
	d.mu.RLock()
	defer d.mu.RUnlock()
	names := [windowKinds]string{nodeWindow: "node", requestWindow: "realtime", keyWindow: "idempotency_key"}
	var out []WindowStats
	for kind, w := range d.windows {
		s := WindowStats{Name: names[kind], Commands: w.records, Bytes: int64(w.records)*recordBytes + w.answers}
		if len(w.chunks) > 0 {
			s.Oldest = w.chunks[0].oldest
		}
		if len(w.chunks) > w.bare {
			s.OldestAnswered = w.chunks[w.bare].oldest
		}
		out = append(out, s)
	}
	return out
}

// recordBytes is about what a command costs without its answer: the record and
// its place in the index.
const recordBytes = 72

// storedWindow and storedChunk are the windows as snapshots have them: a window
// is followed by its chunks.
type storedWindow struct {
	Kind  windowKind `cbor:"1,keyasint"`
	Floor uint64     `cbor:"2,keyasint"`

	chunks []*chunk
}

type storedChunk struct {
	Oldest  int64  `cbor:"1,keyasint"`
	Newest  int64  `cbor:"2,keyasint"`
	Index   uint64 `cbor:"3,keyasint"`
	Records []byte `cbor:"4,keyasint"` // each of storedRecord bytes
	Answers []byte `cbor:"5,keyasint,omitempty"`
}

// storedRecord is the length of a record in a snapshot: its id, its fingerprint,
// the number of its service, the end of its answer, and whether it was refused.
const storedRecord = 16 + 8 + 8 + 4 + 1

func (ch *chunk) stored() storedChunk {
	packed := make([]byte, 0, len(ch.records)*storedRecord)
	for _, r := range ch.records {
		packed = append(packed, r.id[:]...)
		packed = append(packed, r.fingerprint[:]...)
		packed = binary.BigEndian.AppendUint64(packed, r.service)
		packed = binary.BigEndian.AppendUint32(packed, r.end)
		refused := byte(0)
		if r.refused {
			refused = 1
		}
		packed = append(packed, refused)
	}
	return storedChunk{Oldest: ch.oldest, Newest: ch.newest, Index: ch.index, Records: packed, Answers: ch.answers}
}

func (s storedChunk) chunk() (*chunk, error) {
	ch := &chunk{oldest: s.Oldest, newest: s.Newest, index: s.Index, answers: s.Answers}
	if len(s.Records) == 0 || len(s.Records)%storedRecord != 0 {
		return nil, fmt.Errorf("a chunk of %d bytes", len(s.Records))
	}
	end := uint32(0)
	for b := s.Records; len(b) > 0; b = b[storedRecord:] {
		r := record{
			id: CommandID(b[:16]), fingerprint: [8]byte(b[16:24]), service: binary.BigEndian.Uint64(b[24:32]),
			end: binary.BigEndian.Uint32(b[32:36]), refused: b[36] == 1,
		}
		if r.end < end || (s.Answers != nil && int(r.end) > len(s.Answers)) {
			return nil, fmt.Errorf("an answer ends at %d of %d", r.end, len(s.Answers))
		}
		end = r.end
		ch.records = append(ch.records, r)
	}
	return ch, nil
}

// snapshot returns the windows as they are now. What it returns does not change.
func (d *dedup) snapshot() []storedWindow {
	out := make([]storedWindow, 0, windowKinds)
	for kind, w := range d.windows {
		s := storedWindow{Kind: windowKind(kind), Floor: w.floor, chunks: make([]*chunk, len(w.chunks))}
		for i, ch := range w.chunks {
			c := *ch
			s.chunks[i] = &c
		}
		out = append(out, s)
	}
	return out
}

func (d *dedup) restore(windows []storedWindow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.byID)
	clear(d.chunks)
	clear(d.keys)
	d.windows = [windowKinds]window{}
	for _, from := range windows {
		w := &d.windows[from.Kind]
		w.floor = from.Floor
		for _, ch := range from.chunks {
			d.add(w, ch)
			w.records += len(ch.records)
			w.answers += int64(len(ch.answers))
			if ch.answers == nil {
				w.bare++
			}
			for _, r := range ch.records {
				if from.Kind != nodeWindow {
					d.keys[r.service]++
				}
				d.byID[r.id] = ch.number
			}
		}
	}
}
