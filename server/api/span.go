package api

import (
	"sort"

	"lockstep/objects"
)

// stretch reads a span of a collection that can be walked upwards only: page
// gives at most limit entries behind a number.
func stretch[T any](span Span[uint64], page func(after uint64, limit int) []T, number func(T) uint64) []T {
	if span.Before == 0 {
		return page(span.After, span.Limit)
	}
	// The entries wanted begin behind the greatest number that still has Limit
	// of them between itself and Before; it is found by halving.
	full := func(after uint64) bool {
		entries := page(after, span.Limit)
		return len(entries) == span.Limit && number(entries[span.Limit-1]) < span.Before
	}
	after, above := uint64(0), span.Before
	for above-after > 1 {
		if middle := after + (above-after)/2; full(middle) {
			after = middle
		} else {
			above = middle
		}
	}
	entries := page(after, span.Limit)
	for i, e := range entries {
		if number(e) >= span.Before {
			return entries[:i]
		}
	}
	return entries
}

// permissionsBefore gives the last permissions whose identity is smaller than
// before. Identities cannot be halved; they are walked from the first one, a
// few hundred at a time.
func permissionsBefore(found Found, before string, limit int) []*objects.Permission {
	const chunk = 256
	var last []*objects.Permission
	after := ""
	for {
		entries := found.View.Permissions(found.Object, after, chunk)
		within := sort.Search(len(entries), func(i int) bool { return entries[i].Identity >= before })
		last = append(last, entries[:within]...)
		last = last[max(0, len(last)-limit):]
		if within < chunk {
			return last
		}
		after = entries[chunk-1].Identity
	}
}
