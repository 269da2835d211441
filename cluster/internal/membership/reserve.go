package membership

import (
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/status"
)

// A reserve is a nonvoter that takes the place of a voter which has been silent for
// a time that the reserve states. First it becomes a voter, so that at no moment
// fewer live voters than before stand against the dead one; that makes their number
// even, as a rule, and the silent one loses its vote. It keeps its place in the
// cluster. When it is back and has caught up it gets its vote again, like any member
// that wants one; that makes the number even, too, and with nobody silent it is a
// reserve that gives its vote up.

// silence is since when voters have not answered.
type silence map[string]time.Time

// update takes in what members reported just now. A voter counts as silent from the
// first question that it leaves unanswered.
func (s silence) update(servers []raft.Server, reports map[string]status.Node, now time.Time) {
	asked := make(map[string]bool, len(servers))
	for _, server := range servers {
		id := string(server.ID)
		_, answered := reports[id]
		if server.Suffrage != raft.Voter || answered {
			continue
		}
		asked[id] = true
		if _, before := s[id]; !before {
			s[id] = now
		}
	}
	for id := range s {
		if !asked[id] {
			delete(s, id)
		}
	}
}

// any reports whether a voter has been silent for so long; never for a time of zero.
func (s silence) any(forSo time.Duration, now time.Time) bool {
	for _, since := range s {
		if forSo > 0 && now.Sub(since) >= forSo {
			return true
		}
	}
	return false
}

// surplus returns the voter whose vote is one too many, when a reserve votes and the
// number of voters is even: the one that has been silent for so long that the reserve
// stands in for it, or the reserve itself once nobody is silent; "" if there is none.
func surplus(servers []raft.Server, reports map[string]status.Node, silent silence, now time.Time) string {
	voters, reserve := 0, ""
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if id := string(s.ID); reports[id].Reserve > 0 && (reserve == "" || id > reserve) {
			reserve = id
		}
	}
	if reserve == "" || voters%2 == 1 {
		return ""
	}
	if len(silent) == 0 {
		return reserve
	}
	chosen := ""
	for id, since := range silent {
		if now.Sub(since) >= reports[reserve].Reserve && (chosen == "" || id < chosen) {
			chosen = id
		}
	}
	return chosen
}
