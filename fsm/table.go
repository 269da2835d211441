package fsm

import (
	"errors"
	"slices"
)

// table is an ordered tree of immutable records that knows how much memory they
// take, and the sum of their hashes. A copy is independent of the original, and made at no cost.
type table[T any] struct {
	tree[T]
	size  func(T) int64  // of one record; nil: records of another table, counted there
	hash  func(T) hash64 // of one record; nil likewise
	bytes int64          // of all records
	sum   hash64         // likewise

	published *table[T] // the newest copy that is never written to, unless this one was since
}

func newTable[T any](less func(a, b T) bool, size func(T) int64, hash func(T) hash64) *table[T] {
	return &table[T]{tree: newTree(less), size: size, hash: hash}
}

func (t *table[T]) sizeOf(x T) int64 {
	if t.size == nil {
		return 0
	}
	return t.size(x)
}

func (t *table[T]) hashOf(x T) hash64 {
	if t.hash == nil {
		return 0
	}
	return t.hash(x)
}

// Set adds a record, in the place of an equal one if there is one.
func (t *table[T]) Set(x T) (replaced T, ok bool) {
	t.published = nil
	if replaced, ok = t.tree.Set(x); ok {
		t.bytes -= t.sizeOf(replaced)
		t.sum -= t.hashOf(replaced)
	}
	t.bytes += t.sizeOf(x)
	t.sum += t.hashOf(x)
	return replaced, ok
}

// Delete removes the record that equals x.
func (t *table[T]) Delete(x T) (removed T, ok bool) {
	t.published = nil
	if removed, ok = t.tree.Delete(x); ok {
		t.bytes -= t.sizeOf(removed)
		t.sum -= t.hashOf(removed)
	}
	return removed, ok
}

// load adds the next record of a snapshot, which has them in order.
func (t *table[T]) load(x T) error { return t.loadWeighed(x, t.sizeOf(x), t.hashOf(x)) }

// loadWeighed is load of a record whose size and hash are known.
func (t *table[T]) loadWeighed(x T, size int64, hash hash64) error {
	if last, some := t.Max(); some && !t.less(last, x) {
		return errDisorder
	}
	t.push(x)
	t.bytes += size
	t.sum += hash
	return nil
}

// fill adds records of another table, in whatever order they are, behind those that
// are there. It leaves them sorted.
func (t *table[T]) fill(records []T) error {
	slices.SortFunc(records, func(a, b T) int {
		switch {
		case t.less(a, b):
			return -1
		case t.less(b, a):
			return 1
		}
		return 0
	})
	for _, x := range records {
		if err := t.load(x); err != nil {
			return err
		}
	}
	return nil
}

var errDisorder = errors.New("records that are not in order, or one that is there twice")

// Copy returns an independent version.
func (t *table[T]) Copy() *table[T] {
	return &table[T]{tree: t.tree.Copy(), size: t.size, hash: t.hash, bytes: t.bytes, sum: t.sum}
}

// version returns an independent version or, for readers, one that must not be
// written to: the same as last time, if nothing was written meanwhile, as is so for
// most tables after most entries.
func (t *table[T]) version(forReaders bool) *table[T] {
	if !forReaders {
		return t.Copy()
	}
	if t.published == nil {
		t.published = t.Copy()
	}
	return t.published
}

// recount makes the sum of the records' hashes anew.
func (t *table[T]) recount() (all hash64) {
	t.Scan(func(x T) bool {
		all += t.hash(x)
		return true
	})
	return all
}
