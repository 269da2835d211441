package status

import (
	"cmp"
	"strconv"

	"github.com/hashicorp/raft"
)

// LogEnd is the last entry of a log, or of the snapshot before it.
type LogEnd struct{ Term, Index uint64 }

// Compare compares logs as raft does where it gives a vote: who is greater has all
// that counts of the other one's.
func (e LogEnd) Compare(other LogEnd) int {
	return cmp.Or(cmp.Compare(e.Term, other.Term), cmp.Compare(e.Index, other.Index))
}

// LogEndOf returns the end of a server's log.
func LogEndOf(r *raft.Raft) LogEnd {
	stats := r.Stats()
	number := func(key string) uint64 {
		n, _ := strconv.ParseUint(stats[key], 10, 64) // raft makes nothing else
		return n
	}
	log, snapshot := LogEnd{number("last_log_term"), number("last_log_index")}, LogEnd{number("last_snapshot_term"), number("last_snapshot_index")}
	if log.Index >= snapshot.Index {
		return log
	}
	return snapshot
}

// LogEnd returns the end of the node's log.
func (n Node) LogEnd() LogEnd { return LogEnd{n.LastTerm, n.LastIndex} }
