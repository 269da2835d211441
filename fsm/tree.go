package fsm

import (
	"slices"
	"sync/atomic"
)

// tree is an ordered tree of values: a B-tree whose copies share its nodes until
// one of them is written to. Its nodes take about as much memory as the values in
// them: what is put in in order fills them, and what they leave free is little.
//
// A copy may be read while the original is written to, and the reverse.
type tree[T any] struct {
	less       func(a, b T) bool
	root       *node[T] // nil: it is empty
	length     int
	generation uint64 // of the nodes that belong to this tree alone
}

type node[T any] struct {
	generation uint64
	values     []T
	children   []*node[T] // one more than values; none: it is a leaf
}

const (
	maxValues = 63 // in a node
	minValues = maxValues / 3
)

// generations counts trees and their copies. The numbers say only whose a node is.
var generations atomic.Uint64

func newTree[T any](less func(a, b T) bool) tree[T] {
	return tree[T]{less: less, generation: generations.Add(1)}
}

// Copy returns an independent version.
func (t *tree[T]) Copy() tree[T] {
	t.generation = generations.Add(1)
	c := *t
	c.generation = generations.Add(1)
	return c
}

// Len returns the number of values.
func (t *tree[T]) Len() int { return t.length }

// find returns the place of x in a node, or of the child that may have it.
func (t *tree[T]) find(n *node[T], x T) (place int, found bool) {
	low, high := 0, len(n.values)
	for low < high {
		middle := int(uint(low+high) / 2)
		if t.less(x, n.values[middle]) {
			high = middle
		} else {
			low = middle + 1
		}
	}
	if low > 0 && !t.less(n.values[low-1], x) {
		return low - 1, true
	}
	return low, false
}

// Get returns the value that equals x.
func (t *tree[T]) Get(x T) (value T, ok bool) {
	for n := t.root; n != nil; {
		i, found := t.find(n, x)
		switch {
		case found:
			return n.values[i], true
		case n.children == nil:
			return value, false
		}
		n = n.children[i]
	}
	return value, false
}

// Min returns the first value.
func (t *tree[T]) Min() (value T, ok bool) {
	n := t.root
	if n == nil {
		return value, false
	}
	for n.children != nil {
		n = n.children[0]
	}
	return n.values[0], true
}

// Max returns the last value.
func (t *tree[T]) Max() (value T, ok bool) {
	n := t.root
	if n == nil {
		return value, false
	}
	for n.children != nil {
		n = n.children[len(n.children)-1]
	}
	return n.values[len(n.values)-1], true
}

// own returns a node that may be written to, with room for so many more values.
func (t *tree[T]) own(n *node[T], room int) *node[T] {
	if n.generation == t.generation {
		if cap(n.values) < len(n.values)+room {
			n.values = withRoom(n.values, room)
		}
		return n
	}
	c := &node[T]{generation: t.generation, values: withRoom(n.values, room)}
	if n.children != nil {
		c.children = withRoom(n.children, room)
	}
	return c
}

// withRoom returns a copy with room for so many more, and a few beyond that.
func withRoom[T any](x []T, room int) []T {
	const step = 8
	return append(make([]T, 0, (len(x)+room+step-1)/step*step), x...)
}

// Set adds a value, in the place of an equal one if there is one.
func (t *tree[T]) Set(x T) (replaced T, ok bool) {
	if t.root == nil {
		t.root = &node[T]{generation: t.generation, values: withRoom([]T{x}, 0)}
		t.length = 1
		return replaced, false
	}
	var last bool
	t.root, replaced, ok, last = t.set(t.root, x)
	t.grow(last)
	if !ok {
		t.length++
	}
	return replaced, ok
}

// set is Set in a node. It returns the node, which may have a value too many then,
// and whether x was added at its end.
func (t *tree[T]) set(n *node[T], x T) (_ *node[T], replaced T, ok, last bool) {
	i, found := t.find(n, x)
	switch {
	case found:
		n = t.own(n, 0)
		replaced, n.values[i] = n.values[i], x
		return n, replaced, true, false
	case n.children == nil:
		n = t.own(n, 1)
		last = i == len(n.values)
		n.values = slices.Insert(n.values, i, x)
		return n, replaced, false, last
	}
	child, replaced, ok, last := t.set(n.children[i], x)
	n = t.own(n, 0)
	n.children[i] = child
	return n, replaced, ok, t.fit(n, i, last) && last
}

// push adds a value that is greater than all others.
func (t *tree[T]) push(x T) {
	if t.root == nil {
		t.Set(x)
		return
	}
	t.root = t.pushInto(t.root, x)
	t.grow(true)
	t.length++
}

func (t *tree[T]) pushInto(n *node[T], x T) *node[T] {
	if n.children == nil {
		if n = t.own(n, 0); len(n.values) == cap(n.values) {
			n.values = withRoom(n.values, maxValues+1-len(n.values)) // all that there will be
		}
		n.values = append(n.values, x)
		return n
	}
	i := len(n.children) - 1
	child := t.pushInto(n.children[i], x)
	n = t.own(n, 0)
	n.children[i] = child
	t.fit(n, i, true)
	return n
}

// grow makes the tree higher if its root has a value too many.
func (t *tree[T]) grow(last bool) {
	if len(t.root.values) > maxValues {
		t.root = &node[T]{generation: t.generation, children: []*node[T]{t.root}}
		t.fit(t.root, 0, last)
	}
}

// fit splits a child that has a value too many, and reports whether the child is the
// last one. Where one value after the other is added at the end, the nodes before it
// stay full.
func (t *tree[T]) fit(n *node[T], child int, last bool) bool {
	isLast := child == len(n.children)-1
	switch have := len(n.children[child].values); {
	case have <= maxValues:
	case last:
		t.split(n, child, maxValues-1)
	default:
		t.split(n, child, have/2)
	}
	return isLast
}

// split leaves a child its first values, and gives the rest to a new one behind it.
// Both nodes must be the tree's own.
func (t *tree[T]) split(n *node[T], child, values int) {
	left := n.children[child]
	right := &node[T]{generation: t.generation, values: withRoom(left.values[values+1:], 1)}
	between := left.values[values]
	left.values = cut(left.values, values)
	if left.children != nil {
		right.children = withRoom(left.children[values+1:], 1)
		left.children = cut(left.children, values+1)
	}
	n.values = slices.Insert(n.values, child, between)
	n.children = slices.Insert(n.children, child+1, right)
}

// cut returns the first elements, in less memory where that is much less.
func cut[T any](x []T, n int) []T {
	if n < len(x)*3/4 {
		return withRoom(x[:n], 1)
	}
	clear(x[n:])
	return x[:n]
}

// Delete removes the value that equals x.
func (t *tree[T]) Delete(x T) (removed T, ok bool) {
	if t.root == nil {
		return removed, false
	}
	t.root, removed, ok = t.remove(t.root, x)
	if !ok {
		return removed, false
	}
	t.length--
	if len(t.root.values) == 0 {
		if t.root.children == nil {
			t.root = nil
		} else {
			t.root = t.root.children[0]
		}
	}
	return removed, true
}

// remove is Delete in a node. It returns the node, which may have too few values then.
func (t *tree[T]) remove(n *node[T], x T) (_ *node[T], removed T, ok bool) {
	i, found := t.find(n, x)
	if n.children == nil {
		if found {
			n = t.own(n, 0)
			removed = n.values[i]
			n.values = slices.Delete(n.values, i, i+1)
		}
		return n, removed, found
	}
	var child *node[T]
	if found {
		var before T
		child, before = t.removeLast(n.children[i])
		n = t.own(n, 0)
		removed, n.values[i] = n.values[i], before
	} else {
		if child, removed, ok = t.remove(n.children[i], x); !ok {
			return n, removed, false
		}
		n = t.own(n, 0)
	}
	n.children[i] = child
	t.mend(n, i)
	return n, removed, true
}

// removeLast removes the greatest value below a node.
func (t *tree[T]) removeLast(n *node[T]) (_ *node[T], removed T) {
	last := len(n.values) - 1
	if n.children == nil {
		n = t.own(n, 0)
		removed = n.values[last]
		n.values = slices.Delete(n.values, last, last+1)
		return n, removed
	}
	child, removed := t.removeLast(n.children[last+1])
	n = t.own(n, 0)
	n.children[last+1] = child
	t.mend(n, last+1)
	return n, removed
}

// mend puts a child that has too few values together with one beside it, and makes
// two equal ones of them if they are too much for one.
func (t *tree[T]) mend(n *node[T], child int) {
	if len(n.children[child].values) >= minValues {
		return
	}
	i := max(0, child-1)
	right := n.children[i+1]
	left := t.own(n.children[i], 1+len(right.values))
	left.values = append(append(left.values, n.values[i]), right.values...)
	left.children = append(left.children, right.children...)
	n.children[i] = left
	n.values = slices.Delete(n.values, i, i+1)
	n.children = slices.Delete(n.children, i+1, i+2)
	if len(left.values) > maxValues {
		t.split(n, i, len(left.values)/2)
	}
}

// Scan calls visit for every value, in order, until it returns false.
func (t *tree[T]) Scan(visit func(T) bool) {
	if t.root != nil {
		t.root.ascend(0, visit)
	}
}

// Ascend is Scan from the first value on that is not less than x.
func (t *tree[T]) Ascend(x T, visit func(T) bool) {
	if t.root != nil {
		t.ascend(t.root, x, visit)
	}
}

func (t *tree[T]) ascend(n *node[T], x T, visit func(T) bool) bool {
	i, found := t.find(n, x)
	if n.children != nil && !found && !t.ascend(n.children[i], x, visit) {
		return false
	}
	if i == len(n.values) {
		return true
	}
	return visit(n.values[i]) && n.ascend(i+1, visit)
}

// ascend visits what is at a place and behind it.
func (n *node[T]) ascend(place int, visit func(T) bool) bool {
	if n.children == nil {
		for _, x := range n.values[place:] {
			if !visit(x) {
				return false
			}
		}
		return true
	}
	for i, child := range n.children[place:] {
		if !child.ascend(0, visit) {
			return false
		}
		if i += place; i < len(n.values) && !visit(n.values[i]) {
			return false
		}
	}
	return true
}

// Descend calls visit for every value from the last one on that is not greater than
// x, backwards, until it returns false.
func (t *tree[T]) Descend(x T, visit func(T) bool) {
	if t.root != nil {
		t.descend(t.root, x, visit)
	}
}

func (t *tree[T]) descend(n *node[T], x T, visit func(T) bool) bool {
	i, found := t.find(n, x)
	if found {
		return visit(n.values[i]) && n.descend(i, visit)
	}
	if n.children != nil && !t.descend(n.children[i], x, visit) {
		return false
	}
	if i == 0 {
		return true
	}
	return visit(n.values[i-1]) && n.descend(i-1, visit)
}

// descend visits what is in front of a place.
func (n *node[T]) descend(place int, visit func(T) bool) bool {
	for i := place; i >= 0; i-- {
		if n.children != nil && !n.children[i].descend(len(n.children[i].values), visit) {
			return false
		}
		if i > 0 && !visit(n.values[i-1]) {
			return false
		}
	}
	return true
}

// Items returns all values, in order.
func (t *tree[T]) Items() []T {
	all := make([]T, 0, t.length)
	t.Scan(func(x T) bool {
		all = append(all, x)
		return true
	})
	return all
}
