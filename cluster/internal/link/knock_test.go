package link

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

func TestKnockOfMemberIsReported(t *testing.T) {
	addr := freeAddr(t)
	member := open(t, "a", echo, nil)
	ctx := within(t, patience)
	trying, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for trying.Err() == nil { // as members do all the time
			_, _ = member.Call(trying, addr, 1, nil)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	from, err := AwaitKnock(ctx, addr)
	require.NoError(t, err)
	require.Contains(t, from, "127.0.0.1:")
	stop()
	<-done
}

func TestKnockOfStrangerIsIgnored(t *testing.T) {
	addr := freeAddr(t)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	heard := make(chan string, 1)
	failed := make(chan error, 1)
	go func() {
		from, err := AwaitKnock(ctx, addr)
		failed <- err
		heard <- from
	}()
	strangers := 0
	for ctx.Err() == nil { // more than there are places for, saying nothing or something else
		for range 2 * maxKnocks {
			if c, err := net.Dial("tcp", addr); err == nil {
				strangers++
				defer c.Close()
			}
		}
		if c, err := tls.Dial("tcp", addr, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true}); err == nil {
			c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	require.NoError(t, <-failed)
	require.Empty(t, <-heard)
	require.Greater(t, strangers, maxKnocks, "somebody was listening")
}
