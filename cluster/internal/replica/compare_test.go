package replica

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
)

func TestMajorityIsRightAndNobodyGuesses(t *testing.T) {
	same, x, y := fsm.Digest{}, fsm.Digest{Index: 9, Hash: 1}, fsm.Digest{Index: 9, Hash: 2}
	for _, c := range []struct {
		what   string
		voters int
		states []fsm.Digest // of those who have answered
		want   judgement
	}{
		{"alone", 1, []fsm.Digest{same}, right},
		{"two that agree", 2, []fsm.Digest{same, same}, right},
		{"two, of whom one is away", 2, []fsm.Digest{same}, unknown},
		{"two that differ", 2, []fsm.Digest{same, x}, disputed},
		{"three that agree", 3, []fsm.Digest{same, same, same}, right},
		{"the other one is wrong", 3, []fsm.Digest{same, same, x}, right},
		{"this one is wrong", 3, []fsm.Digest{same, x, x}, wrong},
		{"all three differ", 3, []fsm.Digest{same, x, y}, disputed},
		{"one to one, the third is away", 3, []fsm.Digest{same, x}, disputed},
		{"a majority agrees, the third is away", 3, []fsm.Digest{same, same}, right},
		{"all others are away", 3, []fsm.Digest{same}, unknown},
		{"without a vote, as all", 3, []fsm.Digest{same, same, same}, right},
		{"without a vote, unlike all", 3, []fsm.Digest{x, x, x}, wrong},
		{"without a vote, two are away", 3, []fsm.Digest{x}, disputed},
		{"two of five are wrong with this one", 5, []fsm.Digest{same, same, x, x, x}, wrong},
		{"two to two of five", 5, []fsm.Digest{same, same, x, x}, disputed},
	} {
		states := make(map[string]fsm.Digest)
		for i, s := range c.states {
			states[string(rune('a'+i))] = s
		}
		require.Equal(t, c.want, classify(states, c.voters), c.what)
	}
}

func TestVerificationNamesTheOddOneOut(t *testing.T) {
	a, b, c := fsm.Digest{Index: 9, Hash: 1}, fsm.Digest{Index: 9, Hash: 2}, fsm.Digest{Index: 9, Hash: 3}
	problems := func(nodes ...Report) (equal bool, found []string) {
		v := Verification{Index: 9, Nodes: nodes}
		v.conclude()
		for _, r := range v.Nodes {
			found = append(found, r.Problem)
		}
		return v.Equal, found
	}
	equal, found := problems(Report{Digest: a}, Report{Digest: a}, Report{Digest: a})
	require.True(t, equal)
	require.Equal(t, []string{"", "", ""}, found)

	const odd, tie = "its state differs from that of the majority", "its state differs from others', and no majority says whose is right"
	equal, found = problems(Report{Digest: a}, Report{Digest: b}, Report{Digest: a})
	require.False(t, equal)
	require.Equal(t, []string{"", odd, ""}, found)

	equal, found = problems(Report{Digest: a}, Report{Digest: b}, Report{Digest: c})
	require.False(t, equal)
	require.Equal(t, []string{tie, tie, tie}, found)

	equal, found = problems(Report{Digest: a}, Report{Problem: "away"}, Report{Digest: a})
	require.False(t, equal, "not all were seen")
	require.Equal(t, []string{"", "away", ""}, found)
}
