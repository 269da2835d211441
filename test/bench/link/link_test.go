package linkbench

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"lockstep/cluster/internal/link"
)

// sender sends a request to the other node and returns its answer.
type sender func(body []byte) ([]byte, error)

func BenchmarkRequests(b *testing.B) {
	for _, atATime := range []int{1, 16, 256} {
		for _, size := range []int{256, 16 << 10} {
			for _, kind := range []struct {
				name  string
				start func(b *testing.B, atATime int) sender
			}{{"link", startLink}, {"yamux, stream each", startYamux}, {"yamux, streams kept", startKept}} {
				b.Run(fmt.Sprintf("%d at a time/%d bytes/%s", atATime, size, kind.name), func(b *testing.B) {
					run(b, kind.start(b, atATime), atATime, size)
				})
			}
		}
	}
}

// run sends b.N requests, so many at a time.
func run(b *testing.B, send sender, atATime, size int) {
	body := make([]byte, size)
	if _, err := send(body); err != nil { // the connection is there
		b.Fatal(err)
	}
	work := make(chan struct{}, atATime)
	var senders sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for range atATime {
		senders.Go(func() {
			for range work {
				if answer, err := send(body); err != nil || len(answer) != size {
					b.Errorf("%d bytes, %v", len(answer), err)
				}
			}
		})
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	senders.Wait()
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpu returns the processor time that this process has used: unlike the clock, it
// says little of what else the machine does.
func cpu(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func startLink(b *testing.B, _ int) sender {
	open := func(id string) *link.Port {
		_, own, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		credential, err := link.NewCredential("bench", id, own, [32]byte{1})
		if err != nil {
			b.Fatal(err)
		}
		p, err := link.Listen(link.Config{Bind: "127.0.0.1:0", Credential: credential, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { p.Close() })
		p.Serve(id, func(_ context.Context, _ string, _ byte, body []byte) []byte { return body })
		return p
	}
	from, to := open("a"), open("b")
	return func(body []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return from.Call(ctx, to.Addr(), 1, body)
	}
}

// session is a yamux session with another one that answers what its streams carry.
func session(b *testing.B) *yamux.Session {
	config := mutualTLS(b)
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s, err := yamux.Server(conn, quiet())
		if err != nil {
			b.Error(err)
			return
		}
		defer s.Close()
		for {
			stream, err := s.AcceptStream()
			if err != nil {
				return
			}
			serving.Go(func() { answer(stream) })
		}
	})
	conn, err := tls.Dial("tcp", l.Addr().String(), config)
	if err != nil {
		b.Fatal(err)
	}
	s, err := yamux.Client(conn, quiet())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.Close()
		l.Close()
		serving.Wait()
	})
	return s
}

func quiet() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	return c
}

// answer echoes the requests of a stream, each a length and a body.
func answer(stream net.Conn) {
	defer stream.Close()
	r := bufio.NewReader(stream)
	for {
		body, err := receive(r)
		if err != nil {
			return
		}
		if err := transmit(stream, body); err != nil {
			return
		}
	}
}

func transmit(w io.Writer, body []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(b, body...)) // at once: a write is a frame
	return err
}

func receive(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

func startYamux(b *testing.B, _ int) sender {
	s := session(b)
	return func(body []byte) ([]byte, error) {
		stream, err := s.OpenStream()
		if err != nil {
			return nil, err
		}
		defer stream.Close()
		if err := stream.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		if err := transmit(stream, body); err != nil {
			return nil, err
		}
		return receive(stream)
	}
}

func startKept(b *testing.B, atATime int) sender {
	type kept struct {
		*yamux.Stream
		r *bufio.Reader
	}
	s := session(b)
	idle := make(chan kept, atATime)
	for range atATime {
		stream, err := s.OpenStream()
		if err != nil {
			b.Fatal(err)
		}
		idle <- kept{stream, bufio.NewReader(stream)}
	}
	return func(body []byte) ([]byte, error) {
		stream := <-idle
		defer func() { idle <- stream }()
		if err := stream.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return nil, err
		}
		if err := transmit(stream, body); err != nil {
			return nil, err
		}
		return receive(stream.r)
	}
}

// mutualTLS is TLS 1.3 with one certificate that both sides show and trust.
func mutualTLS(b *testing.B) *tls.Config {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"bench"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		b.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		b.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}},
		RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "bench",
	}
}
