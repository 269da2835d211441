package protocol

import "fmt"

// The bounds of the models.
const (
	nodes      = 3
	majority   = nodes/2 + 1
	maxTerm    = 3
	maxEntries = 2
)

// node is one server. Entries are their terms: two of one index and term are the
// same one.
type node struct {
	term   int8
	voted  int8 // for which node in this term, plus one
	log    [maxEntries]int8
	length int8
	commit int8
	votes  int8        // of a candidate: a bit for each node
	leads  bool        // as it believes
	match  [nodes]int8 // of a leader: how much of its log others have told it that they have
}

func (n *node) lastTerm() int8 {
	if n.length == 0 {
		return 0
	}
	return n.log[n.length-1]
}

// newerThan reports whether a node refuses another one its vote for what its log has.
func (n *node) newerThan(other node) bool {
	return n.lastTerm() > other.lastTerm() || (n.lastTerm() == other.lastTerm() && n.length > other.length)
}

// enter has a node see a newer term.
func (n *node) enter(term int8) {
	if term > n.term {
		n.term, n.voted, n.votes, n.leads, n.match = term, 0, 0, false, [nodes]int8{}
	}
}

// raft is raft as its paper has it, without messages: each exchange is one step,
// and any step may be the next.
type raft struct {
	nodes [nodes]node
	acked [maxEntries]int8 // entries that a client was told of
	count int8             // of those
}

// steps are all that raft can do.
func (r raft) steps(step func(what string, next raft)) {
	for i := range nodes {
		if r.nodes[i].term < maxTerm {
			next := r
			n := &next.nodes[i]
			n.enter(n.term + 1)
			n.voted, n.votes = int8(i+1), 1<<i
			step(fmt.Sprintf("%d stands in term %d", i, n.term), next)
		}
		if r.nodes[i].leads && r.nodes[i].length < maxEntries {
			next := r
			n := &next.nodes[i]
			n.log[n.length] = n.term
			n.length++
			n.match[i] = n.length
			step(fmt.Sprintf("%d appends in term %d", i, n.term), next)
		}
		for j := range nodes {
			if i == j {
				continue
			}
			if next, ok := r.vote(i, j); ok {
				step(fmt.Sprintf("%d votes for %d", j, i), next)
			}
			if next, ok := r.replicate(i, j); ok {
				step(fmt.Sprintf("%d replicates to %d", i, j), next)
			}
		}
	}
}

func (r raft) vote(candidate, voter int) (raft, bool) {
	c, v := &r.nodes[candidate], &r.nodes[voter]
	if c.votes == 0 || c.leads || v.term > c.term || (v.term == c.term && v.voted != 0) {
		return r, false
	}
	if v.newerThan(*c) {
		return r, false
	}
	v.enter(c.term)
	v.voted = int8(candidate + 1)
	c.votes |= 1 << voter
	if bits(c.votes) >= majority {
		c.leads = true
		c.match = [nodes]int8{}
		c.match[candidate] = c.length
	}
	return r, true
}

func (r raft) replicate(leader, follower int) (raft, bool) {
	l, f := &r.nodes[leader], &r.nodes[follower]
	if !l.leads || f.term > l.term {
		return r, false
	}
	f.enter(l.term)
	f.votes, f.leads = 0, false
	f.log, f.length = l.log, l.length
	f.commit = max(f.commit, min(l.commit, f.length))
	l.match[follower] = l.length
	for n := l.commit + 1; n <= l.length; n++ {
		have := 0
		for _, m := range l.match {
			if m >= n {
				have++
			}
		}
		if have >= majority && l.log[n-1] == l.term { // only entries of its own term count
			l.commit = n
		}
	}
	if l.commit > r.count {
		r.acked, r.count = l.log, l.commit
		clear(r.acked[r.count:])
	}
	return r, true
}

// wrong says whether what was acknowledged is lost, or two lead in one term, or
// nodes take different entries for committed.
func (r raft) wrong() string {
	for i, a := range r.nodes {
		for k := range min(a.commit, r.count) {
			if a.log[k] != r.acked[k] {
				return fmt.Sprintf("%d has committed another entry %d than was acknowledged", i, k+1)
			}
		}
		if a.commit > r.count {
			return fmt.Sprintf("%d takes entry %d for committed, and nobody has committed that", i, a.commit)
		}
		for j, b := range r.nodes[i+1:] {
			if a.leads && b.leads && a.term == b.term {
				return fmt.Sprintf("%d and %d lead in term %d", i, i+1+j, a.term)
			}
		}
	}
	return ""
}

func bits(mask int8) (n int) {
	for ; mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}
