package fsm

import (
	"github.com/tidwall/btree"
)

// table is an ordered tree of immutable records that knows how much memory they
// take, and the sum of their hashes. A copy is independent of the original, and made at no cost.
type table[T any] struct {
	*btree.BTreeG[T]
	size  func(T) int64  // of one record; nil: records of another table, counted there
	hash  func(T) hash64 // of one record; nil likewise
	bytes int64          // of all records
	sum   hash64         // likewise

	published *table[T] // the newest copy that is never written to, unless this one was since
}

func newTable[T any](less func(a, b T) bool, size func(T) int64, hash func(T) hash64) *table[T] {
	return &table[T]{BTreeG: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true}), size: size, hash: hash}
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
	if replaced, ok = t.BTreeG.Set(x); ok {
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
	if removed, ok = t.BTreeG.Delete(x); ok {
		t.bytes -= t.sizeOf(removed)
		t.sum -= t.hashOf(removed)
	}
	return removed, ok
}

// Copy returns an independent version.
func (t *table[T]) Copy() *table[T] {
	return &table[T]{BTreeG: t.BTreeG.Copy(), size: t.size, hash: t.hash, bytes: t.bytes, sum: t.sum}
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
