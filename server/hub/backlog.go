package hub

import "sync"

// entry is a frame that waits.
type entry struct {
	frame   []byte
	part    *Part         // of the frame, that may be written with others; nil: it is not
	sub     *Subscription // whose event it is; nil: not an event
	lossy   bool          // it may be dropped: a message of a stream
	dropped bool          // it was
}

// backlog holds the frames that wait, oldest first. Frames that may be dropped
// are counted separately and marked in place, so that dropping looks at each
// entry once. Only compact moves entries, at amortized constant cost.
type backlog struct {
	entries []entry
	first   *[smallest]entry // memory that entries began in
	head    int              // entries before it are taken
	oldest  int              // none before it is lossy

	length, bytes           int // of what waits
	lossyLength, lossyBytes int // of those of them that may be dropped
}

func (b *backlog) push(e entry) {
	if b.entries == nil {
		b.first = spare.Get().(*[smallest]entry)
		b.entries = b.first[:0]
	}
	b.entries = append(b.entries, e)
	b.count(e, 1)
}

// pop takes the oldest entry.
func (b *backlog) pop() (e entry, ok bool) {
	for b.head < len(b.entries) {
		e = b.entries[b.head]
		b.entries[b.head] = entry{}
		b.head++
		if !e.dropped {
			b.count(e, -1)
			b.compact()
			return e, true
		}
	}
	b.compact()
	return entry{}, false
}

// next returns the oldest entry and leaves it where it is, or nil.
func (b *backlog) next() *entry {
	for ; b.head < len(b.entries); b.head++ {
		if e := &b.entries[b.head]; !e.dropped {
			return e
		}
	}
	return nil
}

// dropOldest drops the oldest entry that may be dropped. There must be one.
func (b *backlog) dropOldest() {
	for b.oldest = max(b.oldest, b.head); !b.entries[b.oldest].lossy; {
		b.oldest++
	}
	b.count(b.entries[b.oldest], -1)
	b.entries[b.oldest] = entry{dropped: true}
	b.compact()
}

func (b *backlog) count(e entry, sign int) {
	b.length += sign
	b.bytes += sign * len(e.frame)
	if e.lossy {
		b.lossyLength += sign
		b.lossyBytes += sign * len(e.frame)
	}
}

// spare is memory that all backlogs share: where nothing waits there is none.
var spare = sync.Pool{New: func() any { return new([smallest]entry) }}

// smallest is the number of entries that a backlog begins with.
const smallest = 32

// compact removes taken and dropped entries when they are the majority, and all
// memory when nothing waits.
func (b *backlog) compact() {
	switch waste := len(b.entries) - b.length; {
	case b.length == 0:
		if b.first != nil {
			used := len(b.first) // entries have left it, and copies of them are there
			if cap(b.entries) == len(b.first) {
				used = len(b.entries)
			}
			clear(b.first[:used])
			spare.Put(b.first)
		}
		*b = backlog{}
	case waste > smallest && waste > b.length:
		kept, oldest := b.entries[:0], 0
		for i, e := range b.entries {
			if i == b.oldest {
				oldest = len(kept)
			}
			if i >= b.head && !e.dropped {
				kept = append(kept, e)
			}
		}
		clear(b.entries[len(kept):])
		b.entries, b.head, b.oldest = kept, 0, oldest
	}
}
