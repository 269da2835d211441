// Package accept takes connections from a listener in for as long as a port is open.
package accept

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// The pause after a failure begins at leastPause and doubles up to mostPause.
const (
	leastPause = 5 * time.Millisecond
	mostPause  = time.Second
)

// Each calls take with each connection until ctx ends, with which the caller
// closes the listener. A listener that fails, for want of file descriptors for
// one, is tried again after a pause, and the log says what cannot accept.
func Each(ctx context.Context, listener net.Listener, log *slog.Logger, what string, take func(net.Conn)) {
	var pause time.Duration
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return
		case err != nil:
			pause = min(max(2*pause, leastPause), mostPause)
			log.Warn(what+" cannot accept", "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		default:
			pause = 0
			take(conn)
		}
	}
}
