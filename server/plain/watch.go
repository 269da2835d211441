package plain

import (
	"context"
	"syscall"
	"time"
)

// tick is how often the connections are looked at, and how exact time-outs are.
const tick = 250 * time.Millisecond

// watch looks at the connections until ctx ends.
func (s *Server) watch(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		// Not one for each firing: a ticker drops those that come late.
		now := int64(time.Since(s.started) / tick)
		s.ticks.Store(now)
		s.mu.Lock()
		for c := range s.conns {
			c.look(now)
		}
		s.mu.Unlock()
	}
}

// look ends what takes too long: a wait for a request, serving one, or taking its
// answer. A request whose client is gone is given up.
func (c *conn) look(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Duration(now-c.since.Load()) * tick
	switch s := c.server; c.state {
	case waiting:
		if age > s.Other.IdleTimeout {
			c.state = closed
			c.net.Close()
		}
	case serving:
		switch {
		case age > s.Other.WriteTimeout:
			c.net.Close()
		case age >= s.Timeout:
			c.context.late.Store(true)
			c.context.cancel()
		case age >= tick && isGone(c.net):
			c.context.cancel()
		}
	}
}

// isGone reports whether the other side of a connection has ended it. What it has
// sent before stays to be read.
func isGone(c Conn) bool {
	raw, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = control.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err == syscall.ECONNRESET
	})
	return gone || err != nil
}
