// Package certificate has the certificate that a node shows to its clients: a pair
// of files, which are read again when they change. A pair that is not good leaves the
// one before it in use.
//
// Watch runs until its context ends; nothing else here runs by itself.
package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files are a certificate with its chain, and its key, in PEM.
type Files struct {
	log *slog.Logger
	now atomic.Pointer[tls.Certificate]

	// Changed is told each certificate just before it is used; Open tells none. It may be
	// nil, and is set before Watch.
	Changed func(*tls.Certificate)

	mu        sync.Mutex
	cert, key string
	content   [sha256.Size]byte // of the files, when the pair in use was read
}

// Open reads a pair of files.
func Open(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{log: log, cert: cert, key: key}
	pair, content, err := read(cert, key)
	if err != nil {
		return nil, err
	}
	f.content = content
	f.now.Store(pair)
	return f, nil
}

// maxFile is more than a chain of certificates has.
const maxFile = 1 << 20

func read(cert, key string) (*tls.Certificate, [sha256.Size]byte, error) {
	hash := sha256.New()
	var parts [2][]byte
	for i, path := range []string{cert, key} {
		b, err := readFile(path)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("read the certificate: %w", err)
		}
		parts[i] = b
		fmt.Fprintf(hash, "%d ", len(b))
		hash.Write(b)
	}
	content := [sha256.Size]byte(hash.Sum(nil))
	pair, err := tls.X509KeyPair(parts[0], parts[1])
	switch {
	case err != nil:
		return nil, content, fmt.Errorf("the certificate %s and the key %s: %w", cert, key, err)
	case time.Now().After(pair.Leaf.NotAfter):
		return nil, content, fmt.Errorf("the certificate %s ended at %s", cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &pair, content, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s is larger than a certificate can be", path)
	}
	return b, err
}

// Get returns the certificate; it is tls.Config.GetCertificate.
func (f *Files) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.now.Load(), nil }

// Now returns the certificate that is shown at present.
func (f *Files) Now() *tls.Certificate { return f.now.Load() }

// Use has the pair in other files used from now on. The error says why the one
// before it is kept.
func (f *Files) Use(cert, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pair, content, err := read(cert, key)
	if err != nil {
		return err
	}
	f.cert, f.key = cert, key
	if content != f.content {
		f.take(pair, content)
	}
	return nil
}

func (f *Files) take(pair *tls.Certificate, content [sha256.Size]byte) {
	f.content = content
	f.log.Info("another certificate is shown to clients", "file", f.cert, "until", pair.Leaf.NotAfter.UTC())
	if f.Changed != nil {
		f.Changed(pair)
	}
	f.now.Store(pair)
}

// Watch reads the files at this interval, until the context ends, and uses what has
// changed. It looks at what is in them: their times and names say nothing where they
// are links into a directory that is replaced as a whole.
func (f *Files) Watch(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := f.look()
		if text := fmt.Sprint(err); err != nil && text != said {
			f.log.Error("the certificate's files have changed and are not good; the one before is kept", "error", err)
			said = text
		} else if err == nil {
			said = ""
		}
	}
}

// look uses what is in the files, if it is something else.
func (f *Files) look() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	pair, content, err := read(f.cert, f.key)
	if content == f.content {
		return nil
	}
	if err != nil {
		return err
	}
	f.take(pair, content)
	return nil
}
