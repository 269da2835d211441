package harness

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Network is the wires between the nodes' internal ports, when Config.Relayed
// asks for it: each node advertises a relay of the test's in place of its own
// port. What goes over a wire can be held back or delayed, in each direction by
// itself. As on a real network, what is held back arrives when the wire is whole
// again, unless a node has given the connection up.
//
// The relay finds out who connects by the processes' open sockets, as Linux shows
// them in /proc.
type Network struct {
	t testing.TB

	mu      sync.Mutex
	nodes   []*Node
	changed chan struct{} // closed at the next change
	cut     map[wire]bool
	delay   map[wire]time.Duration
	closed  bool
	open    map[net.Conn]struct{}

	listeners []net.Listener
	work      sync.WaitGroup
}

// wire is one direction between two nodes.
type wire struct{ from, to *Node }

func newNetwork(t testing.TB) *Network {
	return &Network{t: t, changed: make(chan struct{}), cut: map[wire]bool{}, delay: map[wire]time.Duration{}, open: map[net.Conn]struct{}{}}
}

// Cut holds back what one node sends to another.
func (w *Network) Cut(from, to *Node) { w.change(func() { w.cut[wire{from, to}] = true }) }

// Part holds back what two nodes send to each other.
func (w *Network) Part(a, b *Node) {
	w.Cut(a, b)
	w.Cut(b, a)
}

// Delay has what one node sends to another arrive that much later.
func (w *Network) Delay(from, to *Node, by time.Duration) {
	w.change(func() { w.delay[wire{from, to}] = by })
}

// Heal makes all wires whole, and fast.
func (w *Network) Heal() {
	w.change(func() {
		clear(w.cut)
		clear(w.delay)
	})
}

func (w *Network) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.changed)
	w.changed = make(chan struct{})
}

// relay listens where a node advertises its internal port.
func (w *Network) relay(n *Node, at, target string) {
	w.t.Helper()
	listener, err := net.Listen("tcp", at)
	require.NoError(w.t, err)
	w.change(func() { w.nodes = append(w.nodes, n) })
	w.listeners = append(w.listeners, listener)
	w.work.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			w.work.Go(func() { w.connect(in, n, target) })
		}
	})
}

func (w *Network) connect(in net.Conn, to *Node, target string) {
	defer in.Close()
	from := w.owner(in)
	out, err := net.Dial("tcp", target)
	if err != nil {
		// The node is not there. Refused, as its own port would, the relay cannot.
		in.(*net.TCPConn).SetLinger(0)
		return
	}
	defer out.Close()
	if !w.track(in, out) {
		return
	}
	defer w.untrack(in, out)
	var back sync.WaitGroup
	back.Go(func() { w.pump(in, out, wire{to, from}) })
	w.pump(out, in, wire{from, to})
	back.Wait()
}

// pumped bounds what is on its way over one connection, in reads.
const pumped = 64

// pump carries what one end sends to the other, and closes both in the end.
func (w *Network) pump(to, from net.Conn, over wire) {
	type piece struct {
		data []byte
		at   time.Time
	}
	pieces := make(chan piece, pumped)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer to.Close()
	defer from.Close()
	reading.Go(func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				pieces <- piece{b[:n], time.Now()}
			}
			if err != nil {
				return
			}
		}
	})
	for p := range pieces {
		if !w.passes(over, p.at) {
			break
		}
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	from.Close()
	for range pieces { // lets the reader go
	}
	w.passes(over, time.Now()) // the end of a connection is told over the same wire
}

// passes waits until what was sent at a time has gone over a wire, and reports
// whether it has: not if the network ends first.
func (w *Network) passes(over wire, sent time.Time) bool {
	for {
		w.mu.Lock()
		cut, wait, changed, closed := w.cut[over], time.Until(sent.Add(w.delay[over])), w.changed, w.closed
		w.mu.Unlock()
		switch {
		case closed:
			return false
		case cut:
			<-changed
		case wait > 0:
			select {
			case <-time.After(wait):
			case <-changed:
			}
		default:
			return true
		}
	}
}

func (w *Network) track(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = struct{}{}
	}
	return !w.closed
}

func (w *Network) untrack(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		delete(w.open, c)
	}
}

func (w *Network) close() {
	w.change(func() {
		w.closed = true
		for c := range w.open {
			c.Close()
		}
	})
	for _, l := range w.listeners {
		l.Close()
	}
	w.work.Wait()
}

// owner is the node whose process made a connection; nil if none of them did.
func (w *Network) owner(c net.Conn) *Node {
	socket := socketOf(c.RemoteAddr().(*net.TCPAddr), c.LocalAddr().(*net.TCPAddr))
	if socket == "" {
		return nil
	}
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	for _, n := range nodes {
		files := fmt.Sprintf("/proc/%d/fd/", n.pid.Load())
		entries, err := os.ReadDir(files)
		if err != nil {
			continue // it has ended
		}
		for _, e := range entries {
			if link, err := os.Readlink(files + e.Name()); err == nil && link == "socket:["+socket+"]" {
				return n
			}
		}
	}
	return nil
}

// socketOf finds a connection's socket by its two ends.
func socketOf(local, remote *net.TCPAddr) string {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	ends := hexAddr(local) + " " + hexAddr(remote)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && f[1]+" "+f[2] == ends {
			return f[9]
		}
	}
	return ""
}

// hexAddr writes an address as /proc/net/tcp does on machines that are little-endian.
func hexAddr(a *net.TCPAddr) string {
	ip := a.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}
