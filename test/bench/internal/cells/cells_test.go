package cells

import (
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	costs = Costs{Delivery: 10e-6, Write: 100e-6, Routed: 8e-6, Subscriber: 25 << 10, Group: 1e9}
	shape = Shape{Voters: 3, Cores: 8, Memory: 16 << 30, Full: 0.5}
	load  = Load{Services: 500, Subscribers: 1_000_000, Skew: 0.8, Deliveries: 1, Writes: 0.05, Burst: 0.5}
)

func TestSameSeedGivesTheSameResult(t *testing.T) {
	require.Equal(t, Run(1, load, shape, costs), Run(1, load, shape, costs))
}

func TestNoCellIsFullerThanItMayBeUnlessOneServiceFillsIt(t *testing.T) {
	r := Run(1, load, shape, costs)
	require.Less(t, r.Largest, shape.Full)
	require.LessOrEqual(t, r.Busiest, shape.Full)
	// All of it fits into no fewer cells than its sum.
	sum := (&directory{load: load, shape: shape, costs: costs}).use(float64(load.Subscribers))
	require.GreaterOrEqual(t, float64(r.Cells), sum/shape.Full)

	one := load
	one.Services = 1
	r = Run(1, one, shape, costs)
	require.Equal(t, 1, r.Cells, "a service is not divided")
	require.Equal(t, r.Largest, r.Busiest)
	require.Greater(t, r.Busiest, shape.Full)
	require.Zero(t, r.Moved)
}

func TestNonvotersMakeRoomForSubscribersAndNotForWrites(t *testing.T) {
	shape := shape
	shape.Memory = 1 << 40 // not what is scarce
	wider := shape
	wider.Nonvoters = 3
	use := func(l Load, s Shape) float64 {
		return (&directory{load: l, shape: s, costs: costs}).use(float64(l.Subscribers))
	}
	listening := load
	listening.Writes = 0
	require.InDelta(t, use(listening, shape)/2, use(listening, wider), 1e-9)
	writing := load
	writing.Deliveries = 0
	require.InDelta(t, use(writing, shape), use(writing, wider), 1e-9)

	slow := costs
	slow.Group = 10_000
	require.InDelta(t, 5, (&directory{load: load, shape: wider, costs: slow}).use(1_000_000), 1e-9, "one log is what is scarce")
}
