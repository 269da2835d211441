// Package memory knows how much memory this process may use: that of its
// cgroup, of either version, or of the machine. It has the Go runtime keep to that,
// and give back what an idle process holds for nothing.
//
// The goroutine of GiveBack ends when it is stopped.
package memory

import (
	"log/slog"
	"math"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// softShare is the part of the memory at which the garbage collector begins to
// work harder. The rest is for what the Go runtime does not count.
const softShare = 0.9

// provider returns the smaller of the two: a cgroup may allow more than there is.
func provider() (uint64, error) {
	machine, err := memlimit.FromSystem()
	group, groupErr := memlimit.FromCgroup()
	switch {
	case groupErr != nil:
		return machine, err
	case err != nil:
		return group, nil
	}
	return min(machine, group), nil
}

// Total returns the memory that this process may use, in bytes; 0 when nothing
// says it.
func Total() int64 {
	total, err := provider()
	if err != nil || total > math.MaxInt64 {
		return 0
	}
	return int64(total)
}

// LimitRuntime has the Go runtime keep to that memory, unless GOMEMLIMIT says
// something else.
func LimitRuntime(log *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithProvider(provider), memlimit.WithRatio(softShare))
	if err != nil {
		log.Warn("memory of the machine not known; the runtime has no limit", "error", err)
		return
	}
	log.Debug("memory limit of the runtime", "bytes", limit)
}
