package takeover

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/status"
)

func TestSuccessorRank(t *testing.T) {
	for _, c := range []struct {
		name, reports, self string
		rank                int
		votes               bool
	}{
		{"equal logs, first id", "a:5 b:5", "a", 0, true},
		{"equal logs, second id", "a:5 b:5", "b", 1, true},
		{"longest log first", "a:5 b:6", "b", 0, true},
		{"shorter log second", "a:5 b:6", "a", 1, true},
		{"the last entry's term counts first", "a:9@2 b:5@3", "b", 0, true},
		{"a longer log that never counted", "a:9@2 b:5@3", "a", 1, true},
		{"alone", "b:5", "b", 0, true},
		{"no voter", "a:5 b:5", "d", 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rank, votes := successorRank(reports(c.reports), c.self)
			require.Equal(t, c.votes, votes)
			if votes {
				require.Equal(t, c.rank, rank)
			}
		})
	}
}

// reports are written as "id:last" or "id:last@term".
func reports(spec string) map[string]Report {
	out := make(map[string]Report)
	for _, r := range strings.Fields(spec) {
		id, last, _ := strings.Cut(r, ":")
		last, of, _ := strings.Cut(last, "@")
		index, _ := strconv.ParseUint(last, 10, 64)
		term, _ := strconv.ParseUint(of, 10, 64) // or none
		out[id] = Report{Log: status.LogEnd{Term: term, Index: index}}
	}
	return out
}
