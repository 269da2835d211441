package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// openGossip starts gossip of a node that is alone.
func openGossip(t *testing.T, self string, limits Limits) *gossip {
	t.Helper()
	c := Config{
		ClusterID: "test", GossipAddr: "127.0.0.1:0", HTTPURL: "http://" + strings.Repeat("x", 450),
		Limits: limits, Logger: slog.New(slog.DiscardHandler),
	}
	g, err := startGossip(c, [][32]byte{testKey}, self, "127.0.0.1:1")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.close(false)) })
	return g
}

// meets reports that a finds b over TCP and says why not.
func meets(a, b *gossip) error {
	_, err := a.list.Join([]string{b.addr()})
	return err
}

func dialGossip(t *testing.T, g *gossip) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", g.addr())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// strangersStream is what memberlist takes for the begin of a member's stream.
func strangersStream(size uint32) []byte {
	const hasLabel, encrypted = 244, 10
	head := append([]byte{hasLabel, byte(len("test"))}, "test"...)
	return binary.BigEndian.AppendUint32(append(head, encrypted), size)
}

// Streams that say nothing, or go on for ever, keep no member out.
func TestStrangersDoNotKeepMembersOutOfGossip(t *testing.T) {
	limits := Limits{GossipStreams: 8, GossipStreamsPerSource: 4}
	a, b := openGossip(t, "a", limits), openGossip(t, "b", limits)
	port := b.port
	var strangers []net.Conn
	for range 20 {
		strangers = append(strangers, dialGossip(t, b))
		require.LessOrEqual(t, port.places.Len(), limits.GossipStreamsPerSource)
	}
	require.NoError(t, meets(a, b))
	require.NoError(t, strangers[0].SetReadDeadline(time.Now().Add(patience)))
	_, err := strangers[0].Read(make([]byte, 1))
	require.Error(t, err)
	require.False(t, timedOut(err), "the oldest stranger goes")
}

// A stream that claims to be long is read no further than a member's may be.
func TestGossipStreamIsBoundedInBytes(t *testing.T) {
	g := openGossip(t, "a", Limits{GossipStreamBytes: 1 << 16})
	conn := dialGossip(t, g)
	require.NoError(t, conn.SetDeadline(time.Now().Add(seedTimeout/2)))
	const size = 19_000_000
	sent, err := io.Copy(conn, io.MultiReader(bytes.NewReader(strangersStream(size)), bytes.NewReader(make([]byte, size-1))))
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	require.False(t, timedOut(err), "it is closed before memberlist would give up, and before it is over")
	require.Less(t, sent, int64(size))
}

// A member may tell of more nodes, each with as much as it may tell of itself,
// than any cluster has.
func TestLargeClusterFitsInGossipStream(t *testing.T) {
	longest := strings.Repeat("n", 64) + "." + strings.Repeat("i", 32)
	a, b := openGossip(t, "a"+longest, Limits{}), openGossip(t, "b"+longest, Limits{})
	alone := tells(t, a)
	require.NoError(t, meets(a, b))
	each := tells(t, a) - alone
	require.Positive(t, each)
	require.GreaterOrEqual(t, Limits{}.withDefaults().GossipStreamBytes/each, int64(300))
}

// tells returns how much a node sends to one that it meets.
func tells(t *testing.T, g *gossip) int64 {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	size := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			size <- 0
			return
		}
		defer conn.Close()
		head := make([]byte, len(strangersStream(0)))
		if _, err := io.ReadFull(conn, head); err != nil {
			size <- 0
			return
		}
		size <- int64(binary.BigEndian.Uint32(head[len(head)-4:]))
	}()
	_, err = g.list.Join([]string{listener.Addr().String()})
	require.Error(t, err)
	require.NoError(t, listener.Close())
	return <-size
}

// Packets come in no faster than they may.
func TestGossipPacketsAreRateLimited(t *testing.T) {
	p, err := openGossipPort("127.0.0.1:0", Limits{GossipPackets: 100}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer p.Shutdown()
	conn, err := net.Dial("udp", p.socket.LocalAddr().String())
	require.NoError(t, err)
	defer conn.Close()
	for range 1000 {
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
	}
	start := time.Now()
	const taken = 40
	for range taken {
		packet := <-p.PacketCh()
		require.Equal(t, "x", string(packet.Buf))
		require.Less(t, cap(packet.Buf), 64, "it does not hold on to a whole buffer")
	}
	require.GreaterOrEqual(t, time.Since(start), 250*time.Millisecond, "ten at once, a hundred a second")
}

// The port ends with streams open in both directions and nobody to take more.
func TestGossipPortCloses(t *testing.T) {
	p, err := openGossipPort("127.0.0.1:0", Limits{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ip, port, err := p.FinalAdvertiseAddr("", 0)
	require.NoError(t, err)
	addr := net.JoinHostPort(ip.String(), fmt.Sprint(port))
	_, err = p.WriteTo([]byte("x"), addr)
	require.NoError(t, err)
	out, err := p.DialTimeout(addr, patience)
	require.NoError(t, err)
	in := <-p.StreamCh()
	waiting, err := p.DialTimeout(addr, patience)
	require.NoError(t, err)
	require.NoError(t, p.Shutdown())
	require.NoError(t, p.Shutdown())
	for _, c := range []net.Conn{out, in, waiting} {
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		c.Close()
	}
	require.Zero(t, p.places.Len())
	_, err = p.DialTimeout(addr, patience)
	require.Error(t, err)
	_, err = p.WriteTo([]byte("x"), addr)
	require.Error(t, err)
}

func TestGossipPortIsTaken(t *testing.T) {
	p, err := openGossipPort("127.0.0.1:0", Limits{}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer p.Shutdown()
	_, err = openGossipPort(p.listener.Addr().String(), Limits{}, slog.New(slog.DiscardHandler))
	require.Error(t, err)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
