package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-sockaddr"
	"github.com/hashicorp/memberlist"
	"golang.org/x/time/rate"

	"lockstep/cluster/internal/accept"
	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/loglimit"
	"lockstep/cluster/slots"
)

const (
	// packetBuffer is how many bytes of received packets the kernel is asked to
	// keep.
	packetBuffer = 2 << 20
	// mostPacket is the size of the largest packet that UDP allows.
	mostPacket = 1 << 16
	// portTries is how often a port that is free for both TCP and UDP is looked
	// for.
	portTries = 10
)

// errStreamTooLong ends a stream that carries more than a member would send.
var errStreamTooLong = errors.New("more bytes than a member sends")

// gossipPort is the gossip port: memberlist's transport. memberlist itself
// accepts every stream, and reads up to 20 MiB of each before it knows whether
// a member sent it. Here strangers share few places, a stream may carry few
// bytes, and packets are read no faster than a node can check them; memberlist
// ends each stream after seedTimeout. The port owns its goroutines and streams;
// Shutdown ends them and waits for the goroutines.
type gossipPort struct {
	listener *net.TCPListener
	socket   *net.UDPConn
	log      *slog.Logger

	streams chan net.Conn
	packets chan *memberlist.Packet

	places *slots.Pool[netip.Addr] // of inbound streams, by source address
	most   int64                   // bytes that a stream may carry
	pace   *rate.Limiter           // of packets

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*gossipPort)(nil)

// openGossipPort listens on addr, host:port, for TCP and UDP.
func openGossipPort(addr string, limits Limits, log *slog.Logger) (*gossipPort, error) {
	limits = limits.withDefaults()
	p := &gossipPort{
		log:     loglimit.New(log),
		streams: make(chan net.Conn), packets: make(chan *memberlist.Packet),
		places: slots.New[netip.Addr](limits.GossipStreams, limits.GossipStreamsPerSource),
		most:   limits.GossipStreamBytes,
		pace:   rate.NewLimiter(rate.Limit(limits.GossipPackets), max(1, int(limits.GossipPackets/10))),
	}
	if err := p.listen(addr); err != nil {
		return nil, err
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.work.Go(func() { accept.Each(p.ctx, p.listener, p.log, "gossip port", p.takeIn) })
	p.work.Go(p.receive)
	return p, nil
}

// listen opens both sockets. Port 0 becomes a port that is free for both.
func (p *gossipPort) listen(addr string) error {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return err
	}
	for range portTries {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		p.listener = listener.(*net.TCPListener)
		socket, err := net.ListenPacket("udp", net.JoinHostPort(host, fmt.Sprint(p.port())))
		if err == nil {
			p.socket = socket.(*net.UDPConn)
			_ = p.socket.SetReadBuffer(packetBuffer) // a smaller one does, too
			return nil
		}
		listener.Close()
		if port != 0 {
			return err
		}
	}
	return errors.New("no port is free for both TCP and UDP")
}

func (p *gossipPort) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// takeIn gives an inbound stream a place, and passes it on.
func (p *gossipPort) takeIn(raw net.Conn) {
	s := p.stream(raw)
	s.place, _ = p.places.Enter(slots.Source(raw.RemoteAddr()), func() {
		p.log.Warn("gossip port has too many streams, an old one was closed", "remote", raw.RemoteAddr().String())
		raw.Close()
	})
	select {
	case p.streams <- s:
	case <-p.ctx.Done():
		s.Close()
	}
}

// receive reads packets, one at a time; the kernel drops those that are too
// many.
func (p *gossipPort) receive() {
	buffer := make([]byte, mostPacket)
	for p.pace.Wait(p.ctx) == nil {
		n, from, err := p.socket.ReadFrom(buffer)
		now := time.Now()
		switch {
		case p.ctx.Err() != nil:
			return
		case err != nil:
			p.log.Warn("gossip port cannot receive", "error", err)
			lifetime.Pause(p.ctx, 5*time.Millisecond)
			continue
		case n == 0:
			continue
		}
		select {
		case p.packets <- &memberlist.Packet{Buf: append([]byte(nil), buffer[:n]...), From: from, Timestamp: now}:
		case <-p.ctx.Done():
		}
	}
}

// gossipStream is a stream in either direction. It ends with the port.
type gossipStream struct {
	net.Conn
	left   int64                    // bytes that it may still carry
	place  *slots.Place[netip.Addr] // nil for one that this node has opened
	forget func() bool
}

func (p *gossipPort) stream(raw net.Conn) *gossipStream {
	return &gossipStream{Conn: raw, left: p.most, forget: context.AfterFunc(p.ctx, func() { raw.Close() })}
}

// Read implements net.Conn.
func (s *gossipStream) Read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, errStreamTooLong
	}
	n, err := s.Conn.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	return n, err
}

// Close implements net.Conn.
func (s *gossipStream) Close() error {
	s.forget()
	if s.place != nil {
		s.place.Leave()
	}
	return s.Conn.Close()
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (p *gossipPort) FinalAdvertiseAddr(host string, port int) (net.IP, int, error) {
	if port == 0 {
		port = p.port()
	}
	ip := p.listener.Addr().(*net.TCPAddr).IP
	switch {
	case host != "":
		if ip = net.ParseIP(host); ip == nil {
			return nil, 0, fmt.Errorf("gossip address to advertise: %q is no IP address", host)
		}
	case ip.IsUnspecified():
		private, err := sockaddr.GetPrivateIP()
		if err != nil {
			return nil, 0, fmt.Errorf("find an address for gossip: %w", err)
		}
		if ip = net.ParseIP(private); ip == nil {
			return nil, 0, errors.New("no private address found for gossip: set the one to advertise")
		}
	}
	if four := ip.To4(); four != nil {
		ip = four
	}
	return ip, port, nil
}

// WriteTo implements memberlist.Transport.
func (p *gossipPort) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = p.socket.WriteTo(b, to)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (p *gossipPort) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return p.WriteTo(b, to.Addr)
}

// DialTimeout implements memberlist.Transport.
func (p *gossipPort) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(p.ctx, timeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return p.stream(raw), nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (p *gossipPort) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return p.DialTimeout(to.Addr, timeout)
}

// PacketCh implements memberlist.Transport.
func (p *gossipPort) PacketCh() <-chan *memberlist.Packet { return p.packets }

// StreamCh implements memberlist.Transport.
func (p *gossipPort) StreamCh() <-chan net.Conn { return p.streams }

// Shutdown implements memberlist.Transport. It may be called again.
func (p *gossipPort) Shutdown() error {
	p.cancel()
	err := errors.Join(p.listener.Close(), p.socket.Close())
	p.work.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
