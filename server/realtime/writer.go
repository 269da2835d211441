package realtime

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/gorilla/websocket"
)

// pong answers a websocket ping. It is left out when too much waits.
func (s *session) pong(data string) error {
	b := appendWebsocketHeader(make([]byte, 0, 2+len(data)), opPong, len(data))
	s.outbox.offer(append(b, data...))
	return nil
}

// write sends what waits, and in between lets subscriptions catch up, as far as
// there is room. It ends with the session.
func (s *session) write() {
	defer s.cancel()
	ping := time.NewTimer(s.server.config.PingInterval)
	defer ping.Stop()
	var frames [][]byte
	for {
		s.unfollowEnded()
		more := false
		for s.catchUp() {
			more = true
		}
		var last bool
		frames, last = s.outbox.take(frames)
		if len(frames) > 0 {
			if err := s.send(frames); err != nil {
				s.conn.Close() // ends the reader, too
				return
			}
			clear(frames)
			if cap(frames) > idleLength {
				frames = nil
			}
			ping.Reset(s.server.config.PingInterval)
			more = true
		}
		if last {
			s.leave()
			return
		}
		if more {
			continue
		}
		select {
		case <-s.outbox.wake:
		case <-ping.C:
			s.outbox.push(frame([]byte(`{"method":"ping","id":"TMping","payload_size":0}`), nil))
		case <-s.ctx.Done():
			return
		}
	}
}

// send writes frames. It gives up when the client takes nothing for the write
// time-out, however long it takes for all.
func (s *session) send(frames net.Buffers) error {
	c := s.conn.NetConn()
	for len(frames) > 0 {
		c.SetWriteDeadline(time.Now().Add(s.server.config.WriteTimeout))
		n, err := frames.WriteTo(c)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if n == 0 {
			s.server.metrics.slow.Inc()
			s.server.config.Logger.Info("slow client closed", "identity", s.actor.Identity)
			return err
		}
	}
	return nil
}

// leave closes the websocket and gives the reader some time to see the client
// do the same.
func (s *session) leave() {
	if s.ctx.Err() != nil {
		return
	}
	c := s.conn.NetConn()
	c.SetWriteDeadline(time.Now().Add(s.server.config.WriteTimeout))
	c.Write(appendClose(nil, websocket.CloseServiceRestart))
	s.cancel()
	c.SetReadDeadline(time.Now().Add(lingerTimeout))
}
