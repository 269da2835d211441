// Package cells simulates many clusters that share the services of one deployment:
// a cell is a cluster, a service lives in one cell, and a directory says in which.
// It answers how many nodes so many subscribers take, how full the fullest cell is
// when services are busy at different times, and what has to move as they grow.
//
// It is arithmetic with measured costs, not a cluster: docs/scaling.md says what
// follows from it and what does not.
package cells

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Costs are those of one cell's processes. Times are in seconds of one core.
type Costs struct {
	Delivery   float64 // of one event to one subscriber, acknowledged
	Write      float64 // of one durable write, on all voters together
	Routed     float64 // what a router adds to a delivery: to read it, and to write it again
	Subscriber float64 // bytes that an idle subscriber takes
	Group      float64 // durable writes a second that one log takes, however many cores there are
}

// Load is what clients do.
type Load struct {
	Services    int
	Subscribers int
	Skew        float64 // of Zipf's law: the service of rank r has a share as 1/r^Skew
	Deliveries  float64 // to one subscriber, a second, on average
	Writes      float64 // of one subscriber, a second, on average
	Burst       float64 // standard deviation of the logarithm of a service's activity in one minute
}

// Shape is what a cell is made of.
type Shape struct {
	Voters, Nonvoters int
	Cores             float64 // of a node
	Memory            float64 // of a node, in bytes, for subscribers
	Full              float64 // share of the cores that may be used on average
}

// Result is what came out.
type Result struct {
	Cells, Nodes int
	Busiest      float64 // mean use of the busiest cell's cores
	Peak         float64 // the use that 99 of 100 minutes of all cells stay below
	Overloaded   float64 // share of the minutes of all cells in which more was wanted than there is
	Largest      float64 // share of a cell's cores that the largest service takes by itself
	RouterCores  float64 // of the routers together
	Moved        float64 // share of the subscribers that changed their cell while the deployment grew tenfold
}

type service struct {
	subscribers float64
	cell        int
	activity    float64
}

// Run places services while the deployment grows from a tenth of the load to all of
// it, and then lets a day pass, minute by minute.
func Run(seed uint64, load Load, shape Shape, costs Costs) Result {
	random := rand.New(rand.NewPCG(seed, 0))
	services := make([]service, load.Services)
	norm := 0.0
	for i := range services {
		services[i] = service{subscribers: math.Pow(float64(i+1), -load.Skew), cell: -1, activity: 1}
		norm += services[i].subscribers
	}
	for i := range services {
		services[i].subscribers *= float64(load.Subscribers) / norm
	}
	random.Shuffle(len(services), func(i, j int) { services[i], services[j] = services[j], services[i] })

	d := &directory{load: load, shape: shape, costs: costs}
	moved := 0.0
	for step := 1; step <= 10; step++ {
		moved += d.place(services, float64(step)/10)
	}
	r := Result{Cells: len(d.used), Nodes: len(d.used) * (shape.Voters + shape.Nonvoters), Moved: moved / float64(load.Subscribers)}
	for _, used := range d.used {
		r.Busiest = max(r.Busiest, used)
	}
	for _, s := range services {
		r.Largest = max(r.Largest, d.use(s.subscribers))
		r.RouterCores += s.subscribers * load.Deliveries * costs.Routed
	}
	r.Peak, r.Overloaded = day(random, services, d)
	return r
}

// directory says which service is in which cell, and how much of its cores each cell
// uses on average.
type directory struct {
	load  Load
	shape Shape
	costs Costs
	used  []float64
}

// use is the share of a cell that so many subscribers take: of its cores, or of the
// memory of its nodes or of what its one log takes, if that is more. Every node has
// its part of the sessions; the voters alone make the writes durable.
func (d *directory) use(subscribers float64) float64 {
	nodes := float64(d.shape.Voters + d.shape.Nonvoters)
	cpu := subscribers * (d.load.Deliveries*d.costs.Delivery + d.load.Writes*d.costs.Write) / (nodes * d.shape.Cores)
	durable := subscribers * d.load.Writes * d.costs.Write / (float64(d.shape.Voters) * d.shape.Cores)
	memory := subscribers * d.costs.Subscriber / (nodes * d.shape.Memory)
	log := subscribers * d.load.Writes / d.costs.Group
	return max(cpu, durable, log, memory*d.shape.Full)
}

// place puts services where there is most room, the largest first, when they have
// grown to a part of their size. A service moves only if its cell has become too full,
// the smallest first, since every move makes clients come back. It returns how many
// subscribers were moved.
func (d *directory) place(services []service, part float64) (moved float64) {
	clear(d.used)
	for _, s := range services {
		if s.cell >= 0 {
			d.used[s.cell] += d.use(s.subscribers * part)
		}
	}
	order := make([]*service, len(services))
	for i := range services {
		order[i] = &services[i]
	}
	slices.SortStableFunc(order, func(a, b *service) int { return cmp.Compare(a.subscribers, b.subscribers) })
	var homeless []*service
	for _, s := range order {
		takes := d.use(s.subscribers * part)
		switch {
		case s.cell < 0:
			homeless = append(homeless, s)
		case d.used[s.cell] > d.shape.Full && d.used[s.cell] > takes:
			d.used[s.cell] -= takes
			moved += s.subscribers * part
			s.cell = -1
			homeless = append(homeless, s)
		}
	}
	for _, s := range slices.Backward(homeless) {
		takes := d.use(s.subscribers * part)
		s.cell = d.roomiest()
		if s.cell < 0 || d.used[s.cell]+takes > d.shape.Full {
			d.used = append(d.used, 0)
			s.cell = len(d.used) - 1
		}
		d.used[s.cell] += takes
	}
	return moved
}

func (d *directory) roomiest() int {
	best := -1
	for i, used := range d.used {
		if best < 0 || used < d.used[best] {
			best = i
		}
	}
	return best
}

// day lets every service be more and less active from minute to minute, around its mean.
func day(random *rand.Rand, services []service, d *directory) (peak, overloaded float64) {
	const minutes = 24 * 60
	var all []float64
	over := 0
	for range minutes {
		wanted := make([]float64, len(d.used))
		for i := range services {
			s := &services[i]
			// Half of what it was a minute ago, so that a burst lasts some minutes.
			s.activity = math.Exp(0.5*math.Log(s.activity) + d.load.Burst*math.Sqrt(0.75)*random.NormFloat64())
			wanted[s.cell] += d.use(s.subscribers) * s.activity / math.Exp(d.load.Burst*d.load.Burst/2)
		}
		for _, w := range wanted {
			if w > 1 {
				over++
			}
		}
		all = append(all, wanted...)
	}
	slices.Sort(all)
	return all[len(all)*99/100], float64(over) / float64(len(all))
}
