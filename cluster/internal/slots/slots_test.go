package slots

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type conn struct {
	owner  string
	closed bool
}

// Close implements io.Closer.
func (c *conn) Close() error {
	c.closed = true
	return nil
}

func TestTheOldestGoes(t *testing.T) {
	s := New[*conn](4, 2)
	admit := func(owner string) *conn {
		c := &conn{owner: owner}
		s.Admit(c, owner)
		return c
	}
	a1, a2 := admit("a"), admit("a")
	b1 := admit("b")
	a3 := admit("a")
	require.True(t, a1.closed, "of the owner that has too many")
	require.False(t, a2.closed || a3.closed || b1.closed)
	c1 := admit("c")
	require.False(t, c1.closed)
	require.Equal(t, 4, s.Len())
	d1 := admit("d")
	require.True(t, a2.closed, "the oldest of all")
	require.False(t, a3.closed || b1.closed || c1.closed || d1.closed)
	s.Release(b1)
	s.Release(b1)
	require.Equal(t, 3, s.Len())
	require.False(t, b1.closed)
}

func TestBoundsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total, each := rapid.IntRange(1, 6).Draw(t, "total"), rapid.IntRange(1, 6).Draw(t, "each")
		s := New[*conn](total, each)
		var open []*conn
		for _, owner := range rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c", ""})).Draw(t, "owners") {
			if owner == "" {
				if len(open) > 0 {
					s.Release(open[0])
					open = open[1:]
				}
				continue
			}
			c := &conn{owner: owner}
			s.Admit(c, owner)
			var still []*conn
			of := map[string]int{}
			for _, x := range append(open, c) {
				if !x.closed {
					still = append(still, x)
					of[x.owner]++
				}
			}
			open = still
			require.False(t, c.closed, "the newcomer stays")
			require.LessOrEqual(t, len(open), total)
			require.LessOrEqual(t, of[owner], each)
			require.Equal(t, len(open), s.Len())
			require.Equal(t, of, s.count)
		}
	})
}
