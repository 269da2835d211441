package link

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

var testKey = [32]byte{1}

// echo answers with the node that asks, the kind, and the body.
func echo(_ context.Context, from string, kind byte, body []byte) []byte {
	node, _, _ := strings.Cut(from, ".")
	return fmt.Appendf(nil, "%s %d %s", node, kind, body)
}

// ownKey is the private key of a test's node.
func ownKey(id string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(id))
	return ed25519.NewKeyFromSeed(seed[:])
}

func incarnation(id string) string { return IncarnationOf(ownKey(id).Public().(ed25519.PublicKey)) }

func credential(t *testing.T, cluster, id string, keys ...[32]byte) *Credential {
	c, err := NewCredential(cluster, id, ownKey(id), keys...)
	require.NoError(t, err)
	return c
}

// open starts a port of node id; edit may be nil.
func open(t *testing.T, id string, handler Handler, edit func(*Config)) *Port {
	config := Config{Bind: "127.0.0.1:0", Credential: credential(t, "cluster", id, testKey), Logger: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&config)
	}
	p, err := Listen(config)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	p.Serve(id, handler)
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestCallsShareOneConnection(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	var calls sync.WaitGroup
	for i := range 500 {
		calls.Go(func() {
			kind := byte(1 + i%7)
			answer, err := a.Call(within(t, patience), b.Addr(), kind, fmt.Appendf(nil, "%d", i))
			if err != nil || string(answer) != fmt.Sprintf("a %d %d", kind, i) {
				t.Errorf("call %d: %q, %v", i, answer, err)
			}
		})
	}
	calls.Wait()
	require.Equal(t, 1, b.members.Len())
}

func TestResponsesMayArriveOutOfOrder(t *testing.T) {
	release := make(chan struct{})
	slow := func(ctx context.Context, _ string, kind byte, body []byte) []byte {
		if kind == 1 {
			<-release
		}
		return body
	}
	a, b := open(t, "a", echo, nil), open(t, "b", slow, nil)
	first := make(chan error, 1)
	go func() {
		_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
		first <- err
	}()
	_, err := a.Call(within(t, patience), b.Addr(), 2, nil)
	require.NoError(t, err)
	close(release)
	require.NoError(t, <-first)
}

func TestDeadlineTravels(t *testing.T) {
	remaining := make(chan time.Duration, 1)
	handler := func(ctx context.Context, _ string, _ byte, _ []byte) []byte {
		deadline, ok := ctx.Deadline()
		if ok {
			remaining <- time.Until(deadline)
		}
		<-ctx.Done()
		return nil
	}
	a, b := open(t, "a", echo, nil), open(t, "b", handler, nil)
	_, err := a.Call(within(t, time.Second), b.Addr(), 1, nil)
	if err != nil { // else the handler's own deadline came first
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, ErrNotSent)
	}
	require.LessOrEqual(t, <-remaining, time.Second)
}

func TestBrokenConnectionFailsCalls(t *testing.T) {
	arrived := make(chan struct{}, 1)
	hang := func(ctx context.Context, _ string, _ byte, _ []byte) []byte {
		arrived <- struct{}{}
		<-ctx.Done()
		return nil
	}
	a, b := open(t, "a", echo, nil), open(t, "b", hang, nil)
	failed := make(chan error, 1)
	go func() {
		_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
		failed <- err
	}()
	<-arrived
	require.NoError(t, b.Close())
	err := <-failed
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNotSent, "the request may have been handled")

	require.Eventually(t, func() bool {
		_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
		return err != nil && !isSent(err)
	}, patience, time.Millisecond, "nobody listens any more")
}

func TestCallToSilentPeerTimesOut(t *testing.T) {
	mute, err := tls.Listen("tcp", "127.0.0.1:0", credential(t, "cluster", "b", testKey).server())
	require.NoError(t, err)
	defer mute.Close()
	var accepted sync.WaitGroup
	accepted.Go(func() {
		c, err := mute.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(io.Discard, c) // reads everything, answers nothing
	})
	a := open(t, "a", echo, nil)
	_, err = a.Call(within(t, patience), mute.Addr().String(), 1, nil)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded, "the unanswered ping ends it, not the caller")
	accepted.Wait()
}

func TestOtherKeyOrClusterIsRefused(t *testing.T) {
	b := open(t, "b", echo, nil)
	for name, other := range map[string]*Credential{
		"key":     credential(t, "cluster", "a", [32]byte{2}),
		"cluster": credential(t, "other", "a", testKey),
	} {
		a := open(t, "a", echo, func(c *Config) { c.Credential = other })
		_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
		require.ErrorIs(t, err, ErrNotSent, name)
	}
	plain, err := net.Dial("tcp", b.Addr())
	require.NoError(t, err)
	defer plain.Close()
	_, err = plain.Write(bytes.Repeat([]byte{purposeRequest}, 100))
	require.NoError(t, err)
	plain.SetReadDeadline(time.Now().Add(patience))
	_, err = io.Copy(io.Discard, plain)
	if err != nil {
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		var timeout net.Error
		require.False(t, isTimeout(err, &timeout), "a stranger is hung up on")
	}
}

func TestUnexpectedNodeIsRefused(t *testing.T) {
	b := open(t, "b", echo, nil)
	a := open(t, "a", echo, func(c *Config) { c.Find = func(string) []string { return []string{b.Addr()} } })
	_, err := a.Call(within(t, patience), "c."+incarnation("c"), 1, nil)
	require.ErrorIs(t, err, ErrNotSent)
	require.ErrorContains(t, err, "is b."+incarnation("b")+" and not c.")
}

func TestOtherIncarnationIsRefused(t *testing.T) {
	b := open(t, "b", echo, nil)
	a := open(t, "a", echo, func(c *Config) { c.Find = func(string) []string { return []string{b.Addr()} } })
	before := "b." + incarnation("before")
	_, err := a.Call(within(t, patience), before, 1, nil)
	require.ErrorIs(t, err, ErrNotSent)
	require.ErrorContains(t, err, "and not "+before)
	_, err = a.Streams().Dial(raft.ServerAddress(before), patience)
	require.ErrorContains(t, err, "and not "+before)
	_, err = a.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err, "whoever is there")
}

// A server is found wherever it is: at another address than the likeliest, where
// nobody listens, or somebody else does, or does not answer.
func TestDialTriesAllKnownAddresses(t *testing.T) {
	b, other := open(t, "b", echo, nil), open(t, "other", echo, nil)
	gone := open(t, "gone", echo, nil)
	require.NoError(t, gone.Close())
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer mute.Close()
	server := "b." + incarnation("b")
	for name, before := range map[string][]string{
		"at once": nil, "nobody": {gone.Addr()}, "somebody else": {other.Addr()}, "silence": {mute.Addr().String()},
		"all of them": {mute.Addr().String(), other.Addr(), gone.Addr()},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, "a", echo, func(c *Config) { c.Find = func(string) []string { return append(before, b.Addr()) } })
			answer, err := a.Call(within(t, patience), server, 1, nil)
			require.NoError(t, err)
			require.Equal(t, "a 1 ", string(answer))
			start := time.Now()
			again, err := a.Streams().Dial(raft.ServerAddress(server), patience)
			require.NoError(t, err)
			require.NoError(t, again.Close())
			require.Less(t, time.Since(start), dialTimeout/4, "it is looked for where it was last")
		})
	}
	a := open(t, "a", echo, nil)
	_, err = a.Call(within(t, patience), server, 1, nil)
	require.ErrorIs(t, err, ErrNotSent)
	require.ErrorContains(t, err, "nobody knows where")
	require.False(t, a.Refused(within(t, patience), server), "nobody knows where it is, least of all that it is gone")
}

// The connecting side says where it can be reached itself.
func TestInboundConnectionTellsItsAddress(t *testing.T) {
	type meeting struct{ server, addr string }
	met := make(chan meeting, 3)
	b := open(t, "b", echo, func(c *Config) { c.Met = func(server, addr string) { met <- meeting{server, addr} } })
	a := open(t, "a", echo, func(c *Config) { c.Advertise = "a.example.com:7000" })
	_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err)
	require.Equal(t, meeting{"a." + incarnation("a"), "a.example.com:7000"}, <-met)

	_, err = Listen(Config{Bind: "127.0.0.1:0", Advertise: strings.Repeat("a", maxAddress) + ":1"})
	require.ErrorContains(t, err, "at most 255")
}

// TestClusterKeyDoesNotImpersonateMember: the name of a server needs the private key
// that it is made of.
func TestClusterKeyDoesNotImpersonateMember(t *testing.T) {
	asked := make(chan string, 1)
	b := open(t, "b", func(_ context.Context, from string, _ byte, _ []byte) []byte {
		asked <- from
		return nil
	}, nil)
	thief, err := NewCredential("cluster", "a", ownKey("thief"), testKey)
	require.NoError(t, err)
	c := open(t, "c", echo, func(c *Config) { c.Credential = thief })
	_, err = c.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err)
	require.Equal(t, "a."+incarnation("thief"), <-asked)
}

func TestStreamsAreForAdmittedServersOnly(t *testing.T) {
	member := "a." + incarnation("a")
	b := open(t, "b", echo, func(c *Config) {
		c.Admit = func(_ context.Context, server string) bool { return server == member }
	})
	streams := b.Streams()
	send := func(p *Port) (net.Conn, error) {
		s, err := p.Streams().Dial(raft.ServerAddress(b.Addr()), patience)
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		s.SetDeadline(time.Now().Add(patience))
		_, err = s.Write([]byte("x"))
		return s, err
	}
	stranger, err := send(open(t, "x", echo, nil))
	if err == nil {
		_, err = stranger.Read(make([]byte, 1))
	}
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is hung up on")

	mine, err := send(open(t, "a", echo, nil))
	require.NoError(t, err)
	theirs, err := streams.Accept()
	require.NoError(t, err)
	b.Dismiss(func(server string) bool { return server != member })
	_, err = theirs.Read(make([]byte, 1))
	require.NoError(t, err, "it stays")
	b.Dismiss(func(server string) bool { return server == member })
	_, err = mine.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it ends with the membership")
}

func TestKeysRotateStepByStep(t *testing.T) {
	older, newer := testKey, [32]byte{2}
	ca, cb := credential(t, "cluster", "a", older), credential(t, "cluster", "b", older)
	talk := func() error {
		a := open(t, "a", echo, func(c *Config) { c.Credential = ca })
		b := open(t, "b", echo, func(c *Config) { c.Credential = cb })
		_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
		if err == nil {
			_, err = b.Call(within(t, patience), a.Addr(), 1, nil)
		}
		return err
	}
	for _, step := range []func() error{
		func() error { return ca.Use(older, newer) },
		func() error { return cb.Use(older, newer) },
		func() error { return ca.Use(newer, older) },
		func() error { return cb.Use(newer, older) },
		func() error { return ca.Use(newer) },
		func() error { return cb.Use(newer) },
	} {
		require.NoError(t, step())
		require.NoError(t, talk())
	}
	ca = credential(t, "cluster", "a", older)
	require.Error(t, talk(), "the old key is worth nothing")
}

func TestRefused(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	held := make(chan bool, 1)
	go func() { held <- a.Refused(within(t, patience), b.Addr()) }()
	require.Eventually(t, func() bool { return b.members.Len() == 1 }, patience, time.Millisecond)
	require.NoError(t, b.Close())
	require.True(t, <-held, "the process is gone")
	require.True(t, a.Refused(within(t, patience), b.Addr()), "still gone")

	c := open(t, "c", echo, nil)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { held <- a.Refused(ctx, c.Addr()) }()
	require.Eventually(t, func() bool { return c.members.Len() == 1 }, patience, time.Millisecond)
	c.mu.Lock()
	for inbound := range c.conns {
		go inbound.Close()
	}
	c.mu.Unlock()
	require.False(t, <-held, "only the connection broke")
	cancel()
	require.False(t, a.Refused(ctx, c.Addr()))
}

// A process that dies closes one thing after the other.
func TestRefusedWhenTheListenerOutlastsTheConnection(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	dying, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer dying.Close()
		in, err := dying.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", b.Addr())
		if err != nil {
			return
		}
		go io.Copy(out, in)
		go io.Copy(in, out)
		for b.members.Len() < 1 { // until it is held
			time.Sleep(time.Millisecond)
		}
		in.Close()
		out.Close()
		for range 3 {
			if knock, err := dying.Accept(); err == nil {
				knock.Close()
			}
		}
	}()
	require.True(t, a.Refused(within(t, patience), dying.Addr().String()))
	<-done
}

func TestRaftStreams(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	from, to := a.Streams(), b.Streams()
	require.Equal(t, b.Addr(), to.Addr().String())
	out, err := from.Dial(raft.ServerAddress(b.Addr()), patience)
	require.NoError(t, err)
	_, err = out.Write([]byte("hello"))
	require.NoError(t, err)
	in, err := to.Accept()
	require.NoError(t, err)
	got := make([]byte, 5)
	_, err = io.ReadFull(in, got)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))

	require.NoError(t, to.Close())
	_, err = to.Accept()
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, in.Close())
	_, err = in.Read(got)
	require.ErrorIs(t, err, io.EOF)
}

// Connections that say nothing take no slot from members, whenever they came,
// and the oldest of them is the one that is closed.
func TestSilentStrangersDoNotKeepMembersOut(t *testing.T) {
	b := open(t, "b", echo, nil)
	var strangers []net.Conn
	for range 2 * defaultStrangersPerSource {
		c, err := net.Dial("tcp", b.Addr())
		require.NoError(t, err)
		defer c.Close()
		strangers = append(strangers, c)
	}
	a := open(t, "a", echo, nil)
	_, err := a.Call(within(t, acceptTimeout), b.Addr(), 1, nil)
	require.NoError(t, err)
	strangers[0].SetReadDeadline(time.Now().Add(patience))
	_, err = strangers[0].Read(make([]byte, 1))
	var timeout net.Error
	require.Error(t, err)
	require.False(t, isTimeout(err, &timeout), "the oldest stranger goes")
	require.LessOrEqual(t, b.strangers.Len(), defaultStrangersPerSource)
	require.Equal(t, 1, b.members.Len())
}

// A member that never lets go of its connections loses its own, the oldest first.
func TestConnectionsPerMemberAreBounded(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	other := open(t, "c", echo, nil)
	_, err := other.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err)
	for range 2 * defaultPerMember {
		c, err := a.dial(within(t, patience), b.Addr(), purposeHold)
		require.NoError(t, err)
		defer c.Close()
	}
	require.Eventually(t, func() bool { return b.members.Len() <= defaultPerMember+1 && b.strangers.Len() == 0 }, patience, time.Millisecond)
	_, err = a.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err)
	_, err = other.Call(within(t, patience), b.Addr(), 1, nil)
	require.NoError(t, err)
}

func TestClosedPort(t *testing.T) {
	a, b := open(t, "a", echo, nil), open(t, "b", echo, nil)
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	_, err := a.Call(within(t, patience), b.Addr(), 1, nil)
	require.ErrorIs(t, err, ErrNotSent)
}

func TestFullOutboxRefuses(t *testing.T) {
	o := newOutbox()
	body := make([]byte, 1<<20)
	var err error
	for range maxOutbox/len(body) + 1 {
		if err = o.put(frame{body: body}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, errFull)
	require.Error(t, newOutbox().put(frame{body: make([]byte, maxFrame)}))
}

func TestFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := frame{
			id:      rapid.Uint64().Draw(t, "id"),
			kind:    rapid.Byte().Draw(t, "kind"),
			timeout: time.Duration(rapid.Uint32().Draw(t, "ms")) * time.Millisecond,
			body:    rapid.SliceOf(rapid.Byte()).Draw(t, "body"),
		}
		b := f.appendTo(nil)
		got, err := readFrame(bytes.NewReader(b))
		require.NoError(t, err)
		require.Equal(t, f.id, got.id)
		require.Equal(t, f.kind, got.kind)
		require.Equal(t, f.timeout, got.timeout)
		require.True(t, bytes.Equal(f.body, got.body))
		_, err = readFrame(bytes.NewReader(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]))
		require.Error(t, err)
	})
}

func isSent(err error) bool { return !errors.Is(err, ErrNotSent) }

func isTimeout(err error, as *net.Error) bool { return errors.As(err, as) && (*as).Timeout() }
