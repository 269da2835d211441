package membership

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/status"
)

// Reports are those of all members that answer: "r" names a reserve.
func TestVotesChangeHandsWhileAVoterIsSilent(t *testing.T) {
	const patience = time.Minute
	begin := time.Unix(0, 0)
	for _, c := range []struct {
		name, servers, answer string
		silentFor             time.Duration
		demoted               string
		replaced              bool // a reserve is to be promoted
	}{
		{"all is well", "a b c r?", "a b c r", 0, "", false},
		{"silent, but not for long", "a b c r?", "a b r", patience - 1, "", false},
		{"silent for too long", "a b c r?", "a b r", patience, "", true},
		{"the reserve votes, and the silent one still does", "a b c r", "a b r", patience, "c", true},
		{"the other reserve waits for its turn", "a b c r s?", "a b r s", patience, "c", true},
		{"its place is taken", "a b c? r", "a b r", patience, "", false},
		{"another one is silent, too", "a b c? r s?", "b r s", patience, "", true},
		{"it is back with a vote", "a b c r", "a b c r", 0, "r", false},
		{"it is back, and another is silent", "a b c r", "b c r", patience, "a", true},
		{"even without a reserve", "a b c d", "a b c d", 0, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, answers := servers(c.servers), make(map[string]status.Node)
			for id := range strings.FieldsSeq(c.answer) {
				answers[id] = status.Node{Server: id}
				if id == "r" || id == "s" {
					answers[id] = status.Node{Server: id, Nonvoter: true, Reserve: patience}
				}
			}
			silent := make(silence)
			silent.update(all, answers, begin)
			now := begin.Add(c.silentFor)
			silent.update(all, answers, now)
			require.Equal(t, c.demoted, surplus(all, answers, silent, now))
			require.Equal(t, c.replaced, silent.any(patience, now))
			require.False(t, silent.any(0, now), "who is no reserve stands in for nobody")
		})
	}
}

func TestSilenceIsCountedAnewAfterEachAnswer(t *testing.T) {
	silent, all := make(silence), servers("a b")
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	silent.update(all, reports("a:1"), at(0))
	silent.update(all, reports("a:1"), at(8))
	require.True(t, silent.any(8*time.Second, at(8)))
	silent.update(all, reports("a:1 b:1"), at(9))
	silent.update(all, reports("a:1"), at(10))
	require.False(t, silent.any(time.Second, at(10)))
}
