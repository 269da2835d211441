package certificate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/certificate"
)

// pair is a certificate's files.
type pair struct{ cert, key string }

func newPair(t *testing.T) pair {
	t.Helper()
	dir := t.TempDir()
	return pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

// write makes a certificate and writes its files.
func (p pair) write(t *testing.T, host string, until time.Time) {
	t.Helper()
	ca, err := certificate.NewAuthority("test", until)
	require.NoError(t, err)
	cert, key, err := ca.Issue(until, host)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(p.cert, cert, 0o600))
	require.NoError(t, os.WriteFile(p.key, key, 0o600))
}

func name(t *testing.T, f *certificate.Files) string {
	t.Helper()
	c, err := f.Get(&tls.ClientHelloInfo{})
	require.NoError(t, err)
	return c.Leaf.DNSNames[0]
}

// buffer is a log that another goroutine writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestAChangedPairIsUsedAndABadOneIsNot(t *testing.T) {
	p, soon := newPair(t), time.Now().Add(time.Hour)
	p.write(t, "one.example", soon)
	log := new(buffer)
	f, err := certificate.Open(p.cert, p.key, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	require.Equal(t, "one.example", name(t, f))
	told := make(chan string, 8)
	f.Changed = func(c *tls.Certificate) { told <- c.Leaf.DNSNames[0] }
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Watch(ctx, 5*time.Millisecond)
	}()
	defer func() {
		stop()
		<-done
	}()

	p.write(t, "two.example", soon)
	require.Equal(t, "two.example", <-told)
	require.Eventually(t, func() bool { return name(t, f) == "two.example" }, 10*time.Second, time.Millisecond)

	other := newPair(t)
	other.write(t, "other.example", soon)
	key, err := os.ReadFile(other.key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(p.key, key, 0o600))
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("private key does not match")) }, 10*time.Second, time.Millisecond)
	require.Equal(t, "two.example", name(t, f), "the one before is kept")

	p.write(t, "old.example", time.Now().Add(-time.Hour))
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("ended at")) }, 10*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(p.cert))
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("no such file")) }, 10*time.Second, time.Millisecond)
	require.Equal(t, "two.example", name(t, f))

	p.write(t, "three.example", soon)
	require.Equal(t, "three.example", <-told)
	require.NoError(t, f.Use(other.cert, other.key))
	require.Equal(t, "other.example", <-told)
	require.Error(t, f.Use(other.cert, p.key))
	require.Equal(t, "other.example", name(t, f))
	require.Empty(t, told, "each is told once")
}

func TestOpenRefusesWhatIsNotGood(t *testing.T) {
	p := newPair(t)
	log := slog.New(slog.DiscardHandler)
	_, err := certificate.Open(p.cert, p.key, log)
	require.ErrorIs(t, err, os.ErrNotExist)
	p.write(t, "a.example", time.Now().Add(-time.Minute))
	_, err = certificate.Open(p.cert, p.key, log)
	require.ErrorContains(t, err, "ended at")
	p.write(t, "a.example", time.Now().Add(time.Minute))
	_, err = certificate.Open(p.key, p.cert, log)
	require.ErrorContains(t, err, p.cert)
	require.NoError(t, os.WriteFile(p.cert, make([]byte, 2<<20), 0o600))
	_, err = certificate.Open(p.cert, p.key, log)
	require.ErrorContains(t, err, "larger")
}
