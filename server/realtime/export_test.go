package realtime

import (
	"time"

	"lockstep/server/realtime/wire"
)

// Close is a row of the table of close codes.
type Close struct {
	Code      int
	Status    string
	Backoff   time.Duration
	Websocket int
}

// Closes returns the table of close codes by the reason.
func Closes() map[string]Close {
	all := map[string]Close{}
	for _, e := range endings {
		all[e.reason] = Close{e.code, e.status, e.backoff, int(e.socket)}
	}
	return all
}

// Overrun has more wait for every client than may.
func (s *Server) Overrun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		for range 10_000 {
			x.queue.Push(wire.Ping())
		}
	}
}

// Resting returns how many sessions rest.
func (s *Server) Resting() (count int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for x := range s.sessions {
		if _, due := x.conn.Overdue(time.Now()); !due.IsZero() {
			count++
		}
	}
	return count
}
