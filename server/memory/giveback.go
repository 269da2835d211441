package memory

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// The process has become idle when it has allocated less than idleBytes between two
// looks, idleLooks times in a row.
const (
	lookEvery = 500 * time.Millisecond
	idleLooks = 2
	idleBytes = 512 << 10
)

const (
	// leastGain is what has to be gained at least, and a quarter of what is alive,
	// all of which is looked at for it.
	leastGain = 8 << 20

	// mostGain bounds for how long a processor does nothing else: the runtime gives
	// back all that is free in one go, for a quarter of a second a GiB. What is more
	// than that it gives back by itself, bit by bit, until it holds about what it lets
	// come together before it collects.
	mostGain = 1 << 30

	// rest is how many times as long as it took nothing is given back again.
	rest = 100
)

// GiveBack gives memory back to the system whenever the process has become idle, and
// lets less garbage come together where much is alive, until stop is called. Many clients
// that come at a time leave garbage and free memory behind, more than they keep, and so
// does a large state that was just read: the runtime would collect it minutes later, and
// hold most of it for what will be allocated next.
func GiveBack(log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { giveBack(ctx, log, lookEvery) })
	return func() {
		cancel()
		work.Wait()
	}
}

func giveBack(ctx context.Context, log *slog.Logger, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	read, room := reader(), newRoom()
	for k := newKeeper(read()); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		began, before := time.Now(), read()
		room.follow(before.alive)
		if !k.due(began, before) {
			continue
		}
		after := collect(read)
		ended := time.Now()
		k.gaveBack(began, ended, after)
		log.Debug("memory given back to the system", "bytes", int64(before.held)-int64(after.held), "took", ended.Sub(began))
	}
}

// collect finds out what is alive, as most of what was there at the last collection may
// be gone, or far more have come, and gives back what is not, unless it is too much.
func collect(read func() usage) usage {
	runtime.GC()
	if u := read(); u.excess() > mostGain {
		return u
	}
	debug.FreeOSMemory() // which collects again: what is in a sync.Pool outlives one collection
	return read()
}

// keeper decides when memory is given back.
type keeper struct {
	allocated uint64    // at the last look
	idle      int       // looks in a row
	known     uint64    // allocated, when memory was given back the last time
	left      uint64    // of the excess, then
	next      time.Time // not before
}

func newKeeper(now usage) *keeper { return &keeper{allocated: now.allocated} }

// due reports whether it is time to give memory back. It is called at each look.
func (k *keeper) due(now time.Time, u usage) bool {
	quiet := u.allocated-k.allocated < idleBytes
	k.allocated = u.allocated
	if !quiet {
		k.idle = 0
		return false
	}
	if k.idle++; k.idle < idleLooks || now.Before(k.next) {
		return false
	}
	k.left = min(k.left, u.excess())
	// The runtime may have collected for the last time in the middle of a burst, and have
	// found all of it alive.
	doubtful := min(u.alive, u.allocated-k.known)
	gain := u.excess() - k.left + doubtful
	return gain >= max(leastGain, u.alive/4)
}

// gaveBack is called when memory has been given back.
func (k *keeper) gaveBack(began, ended time.Time, u usage) {
	*k = keeper{allocated: u.allocated, known: u.allocated, left: u.excess(), next: ended.Add(rest * ended.Sub(began))}
}

// usage is what the runtime says of its heap, in bytes.
type usage struct {
	allocated uint64 // ever
	alive     uint64 // at the last collection
	held      uint64 // of the system's memory
}

// excess returns how much more is held than is alive.
func (u usage) excess() uint64 { return u.held - min(u.held, u.alive) }

// reader returns a function that reads the usage. It stops nothing, and costs some
// microseconds.
func reader() func() usage {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	return func() usage {
		metrics.Read(samples)
		bytes := func(i int) uint64 { return samples[i].Value.Uint64() }
		return usage{allocated: bytes(0), alive: bytes(1), held: bytes(2) + bytes(3) + bytes(4)}
	}
}
