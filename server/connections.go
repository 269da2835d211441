package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"lockstep/cluster/slots"
	"lockstep/server/source"
)

// connections bounds those of one address, in all and by source
// address. One that waits for a request, or is still sending the header of one,
// gives way to a newcomer; one whose request is served, and a websocket, do not.
type connections struct {
	net.Listener
	pool    *slots.Pool[netip.Addr]
	trusted []netip.Prefix
}

func limitConnections(l net.Listener, c Config) *connections {
	return &connections{
		Listener: l, trusted: c.TrustedProxies,
		pool: slots.New[netip.Addr](c.Bounds.Connections, c.Bounds.ConnectionsPerSource),
	}
}

// Accept implements net.Listener. A connection for which there is no place is
// closed.
func (l *connections) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := source.OfPeer(conn.RemoteAddr().String())
		if source.Trusts(l.trusted, addr) {
			addr = netip.Addr{} // of nobody: behind a proxy is everybody
		}
		place, ok := l.pool.Enter(slots.Network(addr), func() { conn.Close() })
		if ok {
			return &connection{Conn: conn, place: place}, nil
		}
		conn.Close()
	}
}

// connection is one with its place among those of its address. It is a plain.Conn.
type connection struct {
	net.Conn
	place    *slots.Place[netip.Addr]
	unread   []byte      // comes before what the connection itself has
	hijacked atomic.Bool // by a websocket
	once     sync.Once
}

// Read implements io.Reader.
func (c *connection) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil
	}
	return n, nil
}

// Unread implements plain.Conn.
func (c *connection) Unread(b []byte) { c.unread = b }

// Busy implements plain.Conn: the connection does not give way.
func (c *connection) Busy() { c.place.Busy() }

// Idle implements plain.Conn: the connection gives way again, unless it has become
// a websocket.
func (c *connection) Idle() {
	if !c.hijacked.Load() {
		c.place.Idle()
	}
}

// Close implements io.Closer.
func (c *connection) Close() error {
	c.once.Do(c.place.Leave)
	return c.Conn.Close()
}

// SyscallConn implements syscall.Conn for connections without TLS.
func (c *connection) SyscallConn() (syscall.RawConn, error) {
	if inner, ok := c.Conn.(syscall.Conn); ok {
		return inner.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

type connectionKey struct{}

// remember and notice are http.Server's ConnContext and ConnState.
func remember(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

func notice(conn net.Conn, state http.ConnState) {
	if c, ok := beneath(conn); ok && state == http.StateHijacked {
		c.hijacked.Store(true)
	}
}

// beneath returns the connection that carries one of TLS, or that is used without.
func beneath(conn net.Conn) (*connection, bool) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*connection)
	return c, ok
}

// serving keeps a connection from giving way while net/http has its request served.
func serving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connectionKey{}).(net.Conn)
		if c, ok := beneath(conn); ok {
			c.Busy()
			defer c.Idle()
		}
		next.ServeHTTP(w, r)
	})
}
