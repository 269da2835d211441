package harness

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Balanced returns the URL of a load balancer in front of the nodes, as operators
// have one: each connection goes to the next node that said lately, at /readyz,
// that it is ready, and to another one where that does not accept it.
func (c *Cluster) Balanced() string {
	c.t.Helper()
	return Balance(c.t, c.URLs())
}

// Balance is Balanced for nodes by their URLs, which need not be there yet.
func Balance(t testing.TB, nodes []string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	b := &balancer{ctx: ctx, ready: map[string]bool{}}
	for _, url := range nodes {
		address := strings.TrimPrefix(url, "http://")
		b.nodes = append(b.nodes, address)
		b.ready[address] = true
	}
	for _, address := range b.nodes {
		b.work.Go(func() { b.check(address) })
	}
	b.work.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			b.work.Go(func() { b.serve(in) })
		}
	})
	t.Cleanup(func() {
		stop()
		listener.Close()
		b.work.Wait()
	})
	return "http://" + listener.Addr().String()
}

type balancer struct {
	ctx   context.Context
	nodes []string
	work  sync.WaitGroup

	mu    sync.Mutex
	next  int
	ready map[string]bool
}

// check keeps what is known of a node.
func (b *balancer) check(node string) {
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := client.Get("http://" + node + "/readyz")
		ready := err == nil && answer.StatusCode == http.StatusOK
		if err == nil {
			answer.Body.Close()
		}
		b.mu.Lock()
		b.ready[node] = ready
		b.mu.Unlock()
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *balancer) serve(in net.Conn) {
	defer in.Close()
	out := b.dial()
	if out == nil {
		return
	}
	defer out.Close()
	defer context.AfterFunc(b.ctx, func() { in.Close(); out.Close() })()
	var back sync.WaitGroup
	back.Go(func() { pass(in, out) })
	pass(out, in)
	back.Wait()
}

// pass carries one direction of a connection, its end included.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // whatever ends it ends both
	_ = to.(*net.TCPConn).CloseWrite()
}

func (b *balancer) dial() net.Conn {
	for range b.nodes {
		node := b.pick()
		if node == "" {
			return nil
		}
		if out, err := net.Dial("tcp", node); err == nil {
			return out
		}
		b.mu.Lock()
		b.ready[node] = false // until it says otherwise
		b.mu.Unlock()
	}
	return nil
}

func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.nodes {
		node := b.nodes[b.next%len(b.nodes)]
		b.next++
		if b.ready[node] {
			return node
		}
	}
	return ""
}
