package connlimit_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/connlimit"
)

var a, b, c = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")

// enter takes one in that writes its name down when it is evicted.
func enter(t *testing.T, p *connlimit.Pool, addr netip.Addr, name string, evicted *[]string) *connlimit.Place {
	t.Helper()
	x, ok := p.Enter(addr, func() { *evicted = append(*evicted, name) })
	require.True(t, ok)
	return x
}

func TestTheOldestOfTheLargestSourceGoesFirst(t *testing.T) {
	p := connlimit.New(4, -1)
	var evicted []string
	enter(t, p, a, "a1", &evicted)
	enter(t, p, b, "b1", &evicted)
	enter(t, p, b, "b2", &evicted)
	enter(t, p, b, "b3", &evicted)
	enter(t, p, c, "c1", &evicted)
	enter(t, p, c, "c2", &evicted) // b and c have two each: b's is older
	require.Equal(t, []string{"b1", "b2"}, evicted)
	for range 100 {
		enter(t, p, b, "b", &evicted)
	}
	require.NotContains(t, evicted, "a1", "a source with many has its own evicted")
	require.Equal(t, 4, p.Len())
}

func TestASourceHasItsShare(t *testing.T) {
	p := connlimit.New(100, 2)
	var evicted []string
	x := enter(t, p, a, "a1", &evicted)
	enter(t, p, a, "a2", &evicted)
	enter(t, p, b, "b1", &evicted)
	enter(t, p, a, "a3", &evicted)
	require.Equal(t, []string{"a1"}, evicted)
	x.Leave() // has no effect: it has lost its place
	require.Equal(t, 3, p.Len())
}

func TestWhoIsBusyIsNotEvicted(t *testing.T) {
	p := connlimit.New(2, 2)
	var evicted []string
	x, y := enter(t, p, a, "x", &evicted), enter(t, p, b, "y", &evicted)
	x.Busy()
	y.Busy()
	_, ok := p.Enter(c, func() {})
	require.False(t, ok)
	y.Idle()
	z := enter(t, p, c, "z", &evicted)
	require.Equal(t, []string{"y"}, evicted)
	x.Leave()
	z.Leave()
	require.Zero(t, p.Len())
}
