package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// maxKnocks is how many connections are looked at at a time.
	maxKnocks = 16
	// knockTimeout bounds the wait for a connection's first message.
	knockTimeout = time.Second
)

// AwaitKnock listens at an address at which no node runs yet, until ctx ends or
// a member of some cluster connects to it as to another member, and returns
// that member's address; "" if none did. Members say what they are in the
// server name of the TLS handshake, before either side has proved anything, so
// the answer is only a hint.
func AwaitKnock(ctx context.Context, bind string) (from string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", bind)
	if err != nil {
		return "", fmt.Errorf("listen on internal port: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	knocks := make(chan string, maxKnocks+1)
	places := make(chan struct{}, maxKnocks)
	var looking sync.WaitGroup
	defer func() {
		cancel()
		listener.Close()
		looking.Wait()
	}()
	looking.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // the address is closed; nothing else matters for so short a time
			}
			select {
			case places <- struct{}{}:
			default:
				c.Close()
				continue
			}
			looking.Go(func() {
				defer func() { <-places }()
				defer c.Close()
				if asksForCluster(ctx, c) {
					select {
					case knocks <- c.RemoteAddr().String():
					default: // one is enough
					}
				}
			})
		}
	})
	select {
	case from = <-knocks:
	case <-ctx.Done():
	}
	return from, nil
}

var errKnock = errors.New("link: nobody is here yet")

// asksForCluster reads the first message of a connection.
func asksForCluster(ctx context.Context, c net.Conn) (asks bool) {
	ctx, cancel := context.WithTimeout(ctx, knockTimeout)
	defer cancel()
	_ = tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asks = strings.HasSuffix(hello.ServerName, serverNameSuffix)
		return nil, errKnock
	}}).HandshakeContext(ctx) // it fails, by then it has been asked
	return asks
}
