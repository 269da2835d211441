package slots

import "container/heap"

// ranking is a heap of the owners whose first one loses a connection next: it has
// most connections to evict, and of equal owners the oldest. So a newcomer costs
// the same however many owners there are, or nearly.
type ranking[K comparable] []*holdings[K]

// Len implements heap.Interface.
func (r ranking[K]) Len() int { return len(r) }

// Less implements heap.Interface.
func (r ranking[K]) Less(i, j int) bool {
	a, b := &r[i].idle, &r[j].idle
	if a.length != b.length || a.length == 0 {
		return a.length > b.length
	}
	return a.oldest.serial < b.oldest.serial
}

// Swap implements heap.Interface.
func (r ranking[K]) Swap(i, j int) {
	r[i], r[j] = r[j], r[i]
	r[i].rank, r[j].rank = i, j
}

// Push implements heap.Interface.
func (r *ranking[K]) Push(x any) {
	s := x.(*holdings[K])
	s.rank = len(*r)
	*r = append(*r, s)
}

// Pop implements heap.Interface.
func (r *ranking[K]) Pop() any {
	last := len(*r) - 1
	s := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return s
}

var _ heap.Interface = (*ranking[string])(nil)
