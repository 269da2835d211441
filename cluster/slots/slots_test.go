package slots_test

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/cluster/slots"
)

var a, b, c = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")

// enter takes one in that writes its name down when it is evicted.
func enter(t *testing.T, p *slots.Pool[netip.Addr], addr netip.Addr, name string, evicted *[]string) *slots.Place[netip.Addr] {
	t.Helper()
	x, ok := p.Enter(addr, func() { *evicted = append(*evicted, name) })
	require.True(t, ok)
	return x
}

func TestOldestOfLargestOwnerIsEvictedFirst(t *testing.T) {
	p := slots.New[netip.Addr](4, -1)
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

func TestOwnerIsBounded(t *testing.T) {
	p := slots.New[netip.Addr](100, 2)
	var evicted []string
	x := enter(t, p, a, "a1", &evicted)
	enter(t, p, a, "a2", &evicted)
	enter(t, p, b, "b1", &evicted)
	enter(t, p, a, "a3", &evicted)
	require.Equal(t, []string{"a1"}, evicted)
	x.Leave() // has no effect: it has lost its place
	require.Equal(t, 3, p.Len())
}

func TestBusyConnectionIsNotEvicted(t *testing.T) {
	p := slots.New[netip.Addr](2, 2)
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

func TestConnectionsWithoutOwnerCountOnlyInTotal(t *testing.T) {
	p := slots.New[netip.Addr](3, 1)
	var evicted []string
	for _, name := range []string{"1", "2", "3"} {
		enter(t, p, netip.Addr{}, name, &evicted)
	}
	require.Empty(t, evicted)
	enter(t, p, a, "a", &evicted)
	require.Equal(t, []string{"1"}, evicted)
}

func TestBoundsHold(t *testing.T) {
	type connection struct {
		owner  string
		place  *slots.Place[string]
		closed bool
	}
	rapid.Check(t, func(t *rapid.T) {
		total, each := rapid.IntRange(1, 6).Draw(t, "total"), rapid.IntRange(1, 6).Draw(t, "each")
		p := slots.New[string](total, each)
		var open []*connection
		for _, owner := range rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c", "leave"})).Draw(t, "owners") {
			if owner == "leave" {
				if len(open) > 0 {
					open[0].place.Leave()
					open = open[1:]
				}
				continue
			}
			c := &connection{owner: owner}
			var ok bool
			c.place, ok = p.Enter(owner, func() { c.closed = true })
			require.True(t, ok, "the newcomer stays")
			var still []*connection
			of := map[string]int{}
			for _, x := range append(open, c) {
				if !x.closed {
					still = append(still, x)
					of[x.owner]++
				}
			}
			open = still
			require.False(t, c.closed)
			require.LessOrEqual(t, len(open), total)
			require.LessOrEqual(t, of[owner], each)
			require.Equal(t, len(open), p.Len())
		}
	})
}

// What is evicted is what a search over all owners would find.
func TestEvictionMatchesModel(t *testing.T) {
	type connection struct {
		owner string
		place *slots.Place[string]
		busy  bool
	}
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.IntRange(1, 8).Draw(t, "total")
		p := slots.New[string](total, -1)
		var open []*connection // the longest idle first
		var evicted *connection
		expected := func() int {
			idle, found := map[string]int{}, -1
			for _, c := range open {
				if !c.busy {
					idle[c.owner]++
				}
			}
			for i, c := range open {
				if !c.busy && (found < 0 || idle[c.owner] > idle[open[found].owner]) {
					found = i
				}
			}
			return found
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(open) > 0 {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				c := open[i]
				switch rapid.SampledFrom([]string{"enter", "busy", "idle", "leave"}).Draw(t, "step") {
				case "busy":
					c.busy = true
					c.place.Busy()
					continue
				case "idle":
					c.place.Idle()
					if c.busy {
						c.busy = false
						open = append(slices.Delete(open, i, i+1), c)
					}
					continue
				case "leave":
					c.place.Leave()
					open = slices.Delete(open, i, i+1)
					continue
				}
			}
			c := &connection{owner: rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "owner")}
			loser := -1
			if len(open) == total {
				loser = expected()
			}
			var ok bool
			evicted = nil
			c.place, ok = p.Enter(c.owner, func() { evicted = c })
			require.Equal(t, len(open) < total || loser >= 0, ok)
			if loser < 0 {
				require.Nil(t, evicted)
			} else {
				require.Same(t, open[loser], evicted)
				open = slices.Delete(open, loser, loser+1)
			}
			if ok {
				open = append(open, c)
			}
			require.Equal(t, len(open), p.Len())
		}
	})
}

func TestSource(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::", "2001:db8:0:0:1::2": "2001:db8::",
	} {
		got := slots.Source(&net.TCPAddr{IP: net.ParseIP(remote), Port: 1})
		require.Equal(t, want, got.String(), remote)
	}
	require.False(t, slots.Source(&net.UnixAddr{Name: "x"}).IsValid())
}

func BenchmarkEnterWithManyOwners(b *testing.B) {
	for _, owners := range []int{100, 10_000} {
		b.Run(strconv.Itoa(owners), func(b *testing.B) {
			p := slots.New[int](owners, -1)
			for i := range owners {
				p.Enter(i, func() {})
			}
			next := owners
			for b.Loop() { // each from an owner of its own
				p.Enter(next, func() {})
				next++
			}
		})
	}
}
