package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/migrate"
	"lockstep/test/ports"
)

func TestStrangersHoldAFewConnectionsOfAMirror(t *testing.T) {
	port, err := ports.Take(1)
	require.NoError(t, err)
	h := &hooks{listen: fmt.Sprintf("127.0.0.1:%d", port)}
	stop, err := h.start(t.Context(), &migrate.Mirror{})
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()

	var held []net.Conn
	for range hookConnections {
		c, err := net.Dial("tcp", h.listen)
		require.NoError(t, err)
		defer c.Close()
		held = append(held, c)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answered := make(chan int, 1)
	go func() {
		r, err := client.PostForm("http://"+h.listen, url.Values{})
		if err != nil {
			answered <- 0
			return
		}
		r.Body.Close()
		answered <- r.StatusCode
	}()
	select {
	case status := <-answered:
		t.Fatalf("one more than %d is served: status %d", hookConnections, status)
	case <-time.After(200 * time.Millisecond):
	}
	held[0].Close()
	require.Equal(t, http.StatusNoContent, <-answered, "when one has gone, the next is served")
}
