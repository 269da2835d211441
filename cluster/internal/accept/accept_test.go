package accept

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// failing is a listener that fails some times before it has a connection.
type failing struct {
	net.Listener
	failures int
	conn     net.Conn
	closed   chan struct{}
}

// Accept implements net.Listener.
func (f *failing) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, errors.New("too many open files")
	}
	if c := f.conn; c != nil {
		f.conn = nil
		return c, nil
	}
	<-f.closed
	return nil, net.ErrClosed
}

func TestAcceptIsRetriedAfterError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer here.Close()
		defer there.Close()
		f := &failing{failures: 20, conn: here, closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(context.Background())
		taken := make(chan net.Conn, 1)
		var accepting sync.WaitGroup
		accepting.Go(func() {
			Each(ctx, f, slog.New(slog.DiscardHandler), "the port", func(c net.Conn) { taken <- c })
		})
		require.Equal(t, here, <-taken)
		cancel()
		close(f.closed)
		accepting.Wait()
	})
}
