// Package link is the internal port of a node: one TLS listener on which the
// members of a cluster talk, and the connections to the other members' ports.
// The first byte on a connection says what it is for: one of raft's own
// streams, our requests (multiplexed and pipelined, one connection for each
// peer), or a connection that is only held, to notice at once when the other
// process dies. Next comes the address at which the connecting side itself can
// be reached.
//
// Servers are called by their ids. Their addresses are looked up when they are
// dialled, and no other server is taken for them: if two members' addresses led
// to one process, it could vote twice. A call to HOST:PORT goes to any server
// that is there.
//
// Both sides authenticate with a certificate that only the cluster's key can
// make, for a key that only that node has, whose name is the incarnation in the
// server's id. A Port owns all of its goroutines and connections; Close ends
// them and waits. Locks are never held across I/O.
//
// hashicorp/yamux also carries many requests over one connection. It is not
// used: it has streams, and requests, their deadlines, and the knowledge
// whether one has left this node would still have to be written on top; and a
// request costs less here. test/bench/link measures processor time for the echo
// of a request of 256 bytes to 16 KiB, 1 to 256 at a time: with streams that
// are kept, as in Nomad, yamux takes 1.1 to 2.2 times as much, with a stream
// for each request 1.8 to 5.5 times (medians of six runs on two cores, TLS 1.3
// on both sides).
//
// The package does not know what the requests mean.
package link

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/accept"
	"lockstep/cluster/loglimit"
	"lockstep/cluster/slots"
)

// The first byte on a connection. Never reuse a number.
const (
	purposeRaft    byte = 1
	purposeRequest byte = 2
	purposeHold    byte = 3
)

const (
	// acceptTimeout bounds the TLS handshake and the first byte.
	acceptTimeout = 5 * time.Second
	// dialTimeout bounds connecting and the TLS handshake.
	dialTimeout = 3 * time.Second
	// The bounds of Limits, if they are not set.
	defaultStrangers          = 512
	defaultStrangersPerSource = 128
	defaultMembers            = 512
	defaultPerMember          = 32
	// maxStrays is how many servers' places are remembered at most.
	maxStrays = 64
)

// Limits bounds the inbound connections. The other side is a stranger until the
// handshake is over. Strangers and members have places of their own, bounded in
// all and by source address or server; when there are too many, an old one is
// closed, never the newcomer, so connections that say nothing keep nobody out.
// Zero is the default.
type Limits struct {
	Strangers, StrangersPerSource int // 512, 128
	Members, PerMember            int // 512, 32; a member needs fewer than ten
}

func (l Limits) withDefaults() Limits {
	return Limits{
		Strangers: cmp.Or(l.Strangers, defaultStrangers), StrangersPerSource: cmp.Or(l.StrangersPerSource, defaultStrangersPerSource),
		Members: cmp.Or(l.Members, defaultMembers), PerMember: cmp.Or(l.PerMember, defaultPerMember),
	}
}

// ErrNotSent is wrapped by the errors of a Call that failed before any of the
// request left this node, so that it has certainly not been handled.
var ErrNotSent = errors.New("link: request not sent")

// ErrClosed says that the port was closed.
var ErrClosed = errors.New("link: port closed")

// Handler answers a request that arrived from the server named from. It may block
// until ctx ends, which it does at the caller's deadline or with the connection.
type Handler = func(ctx context.Context, from string, kind byte, body []byte) []byte

// Config sets up a Port.
type Config struct {
	Bind       string // host:port to listen on
	Advertise  string // host:port told to others; empty: the address bound
	Credential *Credential
	Limits     Limits
	Logger     *slog.Logger

	// Find returns the addresses at which a server may be, the likeliest first.
	// Nil or none: nowhere.
	Find func(server string) []string

	// Met is called with the address that a server advertises when it connects.
	// Nil: nobody is told.
	Met func(server, addr string)

	// Recovered is called when another port says that the cluster was recovered
	// without this node, with the server that says so. Nil: nobody is told.
	Recovered func(server string, err *RecoveredError)

	// Admit reports whether a server's raft streams are accepted. It may ask
	// others. Nil: all are.
	Admit func(ctx context.Context, server string) bool
}

// Port is a node's internal port.
type Port struct {
	config   Config
	listener net.Listener
	addr     string
	raft     chan net.Conn // inbound raft streams
	handler  Handler       // valid once serving is closed
	serving  chan struct{}

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	strangers *slots.Pool[netip.Addr] // inbound, by source address
	members   *slots.Pool[string]     // inbound and authenticated, by server

	mu      sync.Mutex
	closed  bool
	conns   map[*conn]struct{}
	clients map[string]*dialed
	strays  map[string]string // servers that were found at another address than the likeliest
}

// Listen opens the port. Requests wait until Serve is called.
func Listen(config Config) (*Port, error) {
	if len(config.Advertise) > maxAddress {
		return nil, fmt.Errorf("address of internal port has %d bytes and must have at most %d", len(config.Advertise), maxAddress)
	}
	listener, err := net.Listen("tcp", config.Bind)
	if err != nil {
		return nil, fmt.Errorf("listen on internal port: %w", err)
	}
	config.Logger = loglimit.New(config.Logger) // strangers cause most of its lines
	limits := config.Limits.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	p := &Port{
		config: config, listener: listener, addr: config.Advertise,
		raft: make(chan net.Conn), serving: make(chan struct{}), ctx: ctx, cancel: cancel,
		conns: make(map[*conn]struct{}), clients: make(map[string]*dialed), strays: make(map[string]string),
		strangers: slots.New[netip.Addr](limits.Strangers, limits.StrangersPerSource),
		members:   slots.New[string](limits.Members, limits.PerMember),
	}
	if p.addr == "" {
		p.addr = listener.Addr().String()
	}
	p.work.Go(func() { accept.Each(p.ctx, p.listener, p.config.Logger, "internal port", p.takeIn) })
	return p, nil
}

// Addr is the address under which other members reach this port.
func (p *Port) Addr() string { return p.addr }

// Serve sets the handler of incoming requests, and is called once. The id is
// not needed: the certificate names this node.
func (p *Port) Serve(_ string, h Handler) {
	p.handler = h
	close(p.serving)
}

// Close ends all connections and goroutines of the port.
func (p *Port) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	open := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		open = append(open, c)
	}
	p.mu.Unlock()
	p.cancel()
	err := p.listener.Close()
	for _, c := range open {
		c.Close()
	}
	p.work.Wait()
	return err
}

// Refused connects to a server and holds the connection until it breaks; then
// it connects again. It reports whether that was refused: then the host is up and
// nobody listens, so the process has died.
//
// The listener of a process that dies may outlast its connections by some
// milliseconds. So it knocks some times before it says no.
func (p *Port) Refused(ctx context.Context, server string) bool {
	addrs := p.addresses(server)
	if c, err := p.dial(ctx, server, purposeHold); err == nil {
		addrs = []string{c.addr}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		c.Read(make([]byte, 1)) // nothing is ever sent: returns when the connection breaks
		stop()
		c.Close()
	}
	if len(addrs) == 0 {
		return false
	}
	listens := func(addr string) bool { return !p.refuses(ctx, addr) }
	for pause := firstPause; slices.ContainsFunc(addrs, listens); pause *= 2 {
		if pause > lastPause {
			return false
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		case <-p.ctx.Done():
			return false
		}
	}
	return true
}

// The pauses between knocks, twice as long each time.
const (
	firstPause = time.Millisecond
	lastPause  = 128 * time.Millisecond
)

// refuses reports whether nobody listens at an address of a host that is up.
func (p *Port) refuses(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	knock, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err == nil {
		knock.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// takeIn gives an inbound connection a place among the strangers.
func (p *Port) takeIn(raw net.Conn) {
	c, err := p.track(tls.Server(raw, p.config.Credential.server()))
	if err != nil {
		return
	}
	place, _ := p.strangers.Enter(slots.Source(raw.RemoteAddr()), func() {
		p.config.Logger.Warn("internal port has too many strangers, an old one was closed", "remote", raw.RemoteAddr().String())
		c.Close()
	})
	c.hold(place)
	p.work.Go(func() { p.receive(c) })
}

// receive finds out which server connected, and what for.
func (p *Port) receive(c *conn) {
	c.SetDeadline(time.Now().Add(acceptTimeout))
	if err := c.handshake(p.ctx); err != nil {
		knocked := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) // as at the end of Refused
		if !knocked && p.ctx.Err() == nil {
			p.config.Logger.Warn("internal connection refused", "remote", c.RemoteAddr().String(), "error", err)
		}
		c.Close()
		return
	}
	if p.config.Credential.isPast(c.ConnectionState()) {
		p.config.Logger.Warn("a member of this cluster as it was before its recovery was turned away", "remote", c.RemoteAddr().String(), "member", c.peer)
		c.Close()
		return
	}
	place, _ := p.members.Enter(c.server(), func() {
		p.config.Logger.Warn("internal port has too many connections of members, an old one was closed", "member", c.peer)
		c.Close()
	})
	c.hold(place)
	purpose, addr, err := readHello(c)
	if err != nil {
		c.Close()
		return
	}
	c.SetDeadline(time.Time{})
	switch purpose {
	case purposeRaft:
		if !p.admits(c) {
			p.config.Logger.Warn("internal connection refused", "remote", c.RemoteAddr().String(), "server", c.server(), "error", "no member")
			c.Close()
			return
		}
		p.met(c, addr)
		select {
		case p.raft <- c:
		case <-p.ctx.Done():
			c.Close()
		}
	case purposeRequest:
		p.met(c, addr)
		p.serve(c)
	case purposeHold:
		p.met(c, addr)
		c.Read(make([]byte, 1))
		c.Close()
	default:
		c.Close()
	}
}

// dial connects to a server, wherever it may be, or to the process at an
// address. A server is looked for first where it was found last, and no other
// server is taken for it.
func (p *Port) dial(ctx context.Context, to string, purpose byte) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	server := to
	if isAddress(to) {
		server = "" // any server
	}
	addrs := p.addresses(to)
	var errs []error
	for i, addr := range addrs {
		deadline, _ := ctx.Deadline()
		share, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(addrs)-i))
		c, err := p.dialAddr(share, addr, server, purpose)
		cancel()
		if err == nil {
			p.found(to, addr, i == 0)
			return c, nil
		}
		errs = append(errs, err)
	}
	p.lost(to)
	if len(errs) == 0 {
		return nil, fmt.Errorf("nobody knows where %s is", to)
	}
	return nil, errors.Join(errs...)
}

// isAddress tells HOST:PORT from a server's id, which ends in a point and the
// incarnation.
func isAddress(to string) bool {
	_, port, err := net.SplitHostPort(to)
	return err == nil && !strings.Contains(port, ".")
}

// addresses returns where to look for a server, one place after the other.
func (p *Port) addresses(server string) []string {
	if isAddress(server) {
		return []string{server}
	}
	var addrs []string
	if p.config.Find != nil {
		addrs = p.config.Find(server)
	}
	p.mu.Lock()
	stray := p.strays[server]
	p.mu.Unlock()
	if i := slices.Index(addrs, stray); i > 0 {
		addrs = append([]string{stray}, slices.Delete(slices.Clone(addrs), i, i+1)...)
	}
	return addrs
}

// found remembers where a server was found, unless it was the first address
// tried.
func (p *Port) found(server, addr string, first bool) {
	if first {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.strays) >= maxStrays {
		clear(p.strays)
	}
	p.strays[server] = addr
}

func (p *Port) lost(server string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.strays, server)
}

// dialAddr connects to an address, at which a server must be if one is named.
func (p *Port) dialAddr(ctx context.Context, addr, server string, purpose byte) (*conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c, err := p.track(tls.Client(raw, p.config.Credential.client()))
	if err != nil {
		return nil, err
	}
	c.addr = addr
	if err := p.introduce(ctx, c, server, purpose); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (p *Port) introduce(ctx context.Context, c *conn, server string, purpose byte) error {
	if err := c.handshake(ctx); err != nil {
		return fmt.Errorf("handshake with %s: %w", c.addr, err)
	}
	if as := recoveredAs(c.ConnectionState().PeerCertificates[0]); as != "" {
		err := &RecoveredError{Cluster: p.config.Credential.cluster, As: as}
		if p.config.Recovered != nil {
			p.config.Recovered(c.server(), err)
		}
		return fmt.Errorf("%s: %w", c.addr, err)
	}
	if server != "" && server != c.server() {
		p.met(c, c.addr) // not the server that was looked for, but now this one's address is known
		return fmt.Errorf("%s is %s and not %s", c.addr, c.server(), server)
	}
	c.SetWriteDeadline(time.Now().Add(dialTimeout))
	defer c.SetWriteDeadline(time.Time{})
	if _, err := c.Write(hello(purpose, p.addr)); err != nil {
		return fmt.Errorf("open stream to %s: %w", c.addr, err)
	}
	return nil
}

// maxAddress is how long an advertised address may be.
const maxAddress = 255

// hello returns the first bytes of a connection: its purpose, and the address
// at which the connecting side itself can be reached.
func hello(purpose byte, addr string) []byte {
	return append([]byte{purpose, byte(len(addr))}, addr...)
}

func readHello(r io.Reader) (purpose byte, addr string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, "", err
	}
	rest := make([]byte, head[1])
	_, err = io.ReadFull(r, rest)
	return head[0], string(rest), err
}

func (p *Port) met(c *conn, addr string) {
	if p.config.Met != nil && isAddress(addr) {
		p.config.Met(c.server(), addr)
	}
}

// conn is a connection that its port can find and close.
type conn struct {
	*tls.Conn
	port *Port
	once sync.Once

	place place // an inbound one's; under Port.mu

	addr              string // that was dialled
	peer, incarnation string // of the other side, from its certificate
	raft              bool   // one of raft's inbound streams; under Port.mu
}

func (p *Port) track(t *tls.Conn) (*conn, error) {
	c := &conn{Conn: t, port: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		t.NetConn().Close()
		return nil, ErrClosed
	}
	p.conns[c] = struct{}{}
	return c, nil
}

func (c *conn) handshake(ctx context.Context) error {
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	certificate := c.ConnectionState().PeerCertificates[0]
	public, ok := certificate.PublicKey.(ed25519.PublicKey)
	if !ok {
		return errors.New("the peer's certificate is for a key of another kind")
	}
	c.peer, c.incarnation = certificate.Subject.CommonName, IncarnationOf(public)
	return nil
}

// server is the id of the other side in raft's configuration.
func (c *conn) server() string { return c.peer + "." + c.incarnation }

// admits marks a connection as one of raft's, if its server is admitted.
func (p *Port) admits(c *conn) bool {
	if p.config.Admit == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(p.ctx, acceptTimeout)
	defer cancel()
	if !p.config.Admit(ctx, c.server()) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c.raft = true
	return true
}

// Dismiss ends raft's streams from servers that are no longer members.
func (p *Port) Dismiss(gone func(server string) bool) {
	p.mu.Lock()
	var inbound []*conn
	for c := range p.conns {
		if c.raft {
			inbound = append(inbound, c)
		}
	}
	p.mu.Unlock()
	for _, c := range inbound {
		if gone(c.server()) {
			c.Close()
		}
	}
}

// Close implements net.Conn. It skips TLS's farewell, which may block: the
// other side treats any end the same.
func (c *conn) Close() error {
	var err error
	c.once.Do(func() {
		c.port.mu.Lock()
		delete(c.port.conns, c)
		held := c.place
		c.port.mu.Unlock()
		if held != nil {
			held.Leave()
		}
		err = c.NetConn().Close()
	})
	return err
}

// place is one among strangers or members.
type place interface{ Leave() }

// hold moves a connection to another place, or gives that up if the connection
// was closed meanwhile.
func (c *conn) hold(to place) {
	c.port.mu.Lock()
	from := c.place
	c.place = to
	_, open := c.port.conns[c]
	c.port.mu.Unlock()
	if from != nil {
		from.Leave()
	}
	if !open {
		to.Leave()
	}
}

// Streams returns the part of the port that raft's transport uses. Closing the
// transport leaves the port open.
func (p *Port) Streams() raft.StreamLayer { return &streams{port: p, closed: make(chan struct{})} }

type streams struct {
	port   *Port
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.port.raft:
		return stream{c}, nil
	case <-s.closed:
	case <-s.port.ctx.Done():
	}
	return nil, ErrClosed
}

// stream is a connection that raft reads requests from. It ends with EOF when
// this node itself has closed it.
type stream struct{ net.Conn }

// Read implements net.Conn.
func (s stream) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Dial implements raft.StreamLayer.
func (s *streams) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.port.ctx, timeout)
	defer cancel()
	return s.port.dial(ctx, string(addr), purposeRaft)
}

// Close implements net.Listener.
func (s *streams) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener: the address is the advertised one, which may
// be a name that is resolved at each dial.
func (s *streams) Addr() net.Addr { return advertised(s.port.addr) }

type advertised string

func (advertised) Network() string  { return "tcp" }
func (a advertised) String() string { return string(a) }
