package fsm

import (
	"cmp"
	"encoding/binary"
	"slices"

	"lockstep/objects"
)

// numbered is the number of something and, in its upper bits, the kind. Numbers stay
// below 2^53 (see Recover).
type numbered uint64

const kindShift = 56

func withKind(kind objects.Kind, num uint64) numbered {
	return numbered(kind)<<kindShift | numbered(num)
}

func (n numbered) kind() objects.Kind { return objects.Kind(n >> kindShift) }
func (n numbered) num() uint64        { return uint64(n & (1<<kindShift - 1)) }

// sidEntry says what has a SID. It is ordered by what is random in it.
type sidEntry struct {
	high, low uint64 // the random bytes of the SID
	is        numbered
	service   uint64 // 0 for services themselves
}

func sidEntryOf(sid objects.SID, service, num uint64) sidEntry {
	return sidEntry{
		high: binary.BigEndian.Uint64(sid[1:]), low: binary.BigEndian.Uint64(sid[9:]),
		is: withKind(sid.Kind(), num), service: service,
	}
}

func compareSIDs(a, b sidEntry) int {
	if a.high != b.high {
		return cmp.Compare(a.high, b.high)
	}
	return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.is.kind(), b.is.kind()))
}

func lessSID(a, b sidEntry) bool { return compareSIDs(a, b) < 0 }

// nameEntry says what has a unique name.
type nameEntry struct {
	name    string
	service uint64 // 0 for services themselves
	is      numbered
}

func nameEntryOf(service uint64, kind objects.Kind, name string, num uint64) nameEntry {
	return nameEntry{name: name, service: service, is: withKind(kind, num)}
}

func lessName(a, b nameEntry) bool {
	if a.service != b.service {
		return a.service < b.service
	}
	if ka, kb := a.is.kind(), b.is.kind(); ka != kb {
		return ka < kb
	}
	return a.name < b.name
}

// sortBySID sorts entries by their SIDs, which are random: it puts them into buckets by
// eight bits after another until few are in one, which takes a fraction of the time of
// comparing them all.
func sortBySID(entries []sidEntry) { sortBits(entries, 64-8) }

// sortBits sorts entries that differ in no bit above the eight that begin at a place.
func sortBits(entries []sidEntry, at int) {
	const few = 64
	if len(entries) <= few || at < 0 {
		slices.SortFunc(entries, compareSIDs)
		return
	}
	bucket := func(e *sidEntry) int { return int(e.high >> at & 0xff) }
	var begins, ends [256]int
	for i := range entries {
		ends[bucket(&entries[i])]++
	}
	sum := 0
	for b, count := range ends {
		begins[b] = sum
		sum += count
		ends[b] = sum
	}
	// Whatever is at the beginning of the rest of a bucket changes places with what is
	// at the beginning of the rest of its own, until it is one that belongs there.
	for b := range ends {
		for begins[b] < ends[b] {
			to := &begins[bucket(&entries[begins[b]])]
			entries[begins[b]], entries[*to] = entries[*to], entries[begins[b]]
			*to++
		}
	}
	begin := 0
	for _, end := range ends {
		sortBits(entries[begin:end], at-8)
		begin = end
	}
}
