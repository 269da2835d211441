package memory

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// The runtime lets as much garbage come together as is alive (GOGC=100). Of a large
// state that is much memory, and saves little: the more is alive, the more seldom it
// is collected anyway, and most of a state are values, which no collection looks
// into. So beyond wholeRoom there is room for a part of what is alive only.
const (
	wholeRoom = 256 << 20
	roomShare = 3 // a third
)

const usualPercent = 100

// percentFor returns the room for garbage as a percentage of what is alive.
func percentFor(alive uint64) int {
	if alive <= wholeRoom {
		return usualPercent
	}
	return int((wholeRoom + (alive-wholeRoom)/roomShare) * 100 / alive)
}

// room keeps the runtime's GOGC at what percentFor says.
type room struct {
	percent int // as it was set last; 0: it is the user's
}

func newRoom() *room {
	if os.Getenv("GOGC") != "" {
		return new(room)
	}
	return &room{percent: usualPercent}
}

// follow is called when something else may be alive. Whoever else has set a GOGC, as is
// done while a state is restored, keeps it.
func (r *room) follow(alive uint64) {
	want := percentFor(alive)
	const least = 5 // the world stands still for each change
	if r.percent == 0 || want > r.percent-least && want < r.percent+least || collecting() != r.percent {
		return
	}
	debug.SetGCPercent(want)
	r.percent = want
}

// collecting returns the GOGC of the runtime.
func collecting() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}
