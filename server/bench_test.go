package server

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm/fsmtest"
	"lockstep/server/api"
	"lockstep/server/auth"
	"lockstep/server/budget"
	"lockstep/server/rest"
)

// fixedKeyring knows the account of the store for tests.
type fixedKeyring struct{}

func (fixedKeyring) Account() (string, []string) {
	return fsmtest.AccountSID, []string{fsmtest.AuthToken}
}

func (fixedKeyring) Key(sid string) (auth.Key, bool) {
	return auth.Key{Secret: fsmtest.KeySecret}, sid == fsmtest.KeySID.String()
}

// restOnListener serves REST from a store in memory on a listener of its own, and
// returns the host. The document "it" has 256 bytes.
func restOnListener(tb testing.TB) (host string) {
	node := fsmtest.New(time.Now)
	handler := rest.New(rest.Config{API: api.New(node), Keyring: fixedKeyring{}, Bodies: budget.New(-1).Share(-1), Logger: slog.New(slog.DiscardHandler)})
	l, err := listen(Config{HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}.withDefaults(), nil)
	require.NoError(tb, err)
	l.show(handler, notHere)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(tb, l.close(ctx))
	})
	host = strings.TrimPrefix(l.url, "http://")
	c := dialListener(tb, l.url, restRequest("POST", host, "/Documents", "UniqueName=it&Data="+url.QueryEscape(document(256)), ""))
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusCreated, answer.StatusCode)
	return host
}

// document returns JSON of so many bytes.
func document(size int) string { return `{"a":"` + strings.Repeat("x", size-8) + `"}` }

// restRequest returns a request of the account in the default service.
func restRequest(method, host, path, form, header string) string {
	if form != "" {
		header += fmt.Sprintf("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n", len(form))
	}
	credentials := base64.StdEncoding.EncodeToString([]byte(fsmtest.AccountSID + ":" + fsmtest.AuthToken))
	return fmt.Sprintf("%s /v1/Services/%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Basic %s\r\n%s\r\n%s",
		method, fsmtest.Service, path, host, credentials, header, form)
}

// BenchmarkREST is one request after another on one connection through the
// listener, its client included: served as plain requests, and by net/http.
func BenchmarkREST(b *testing.B) {
	update := "Data=" + url.QueryEscape(document(256))
	for _, x := range []struct{ name, method, form, header string }{
		{"fetch", "GET", "", ""},
		{"fetch/nethttp", "GET", "", "Te: trailers\r\n"},
		{"update", "POST", update, ""},
		{"update/nethttp", "POST", update, "Te: trailers\r\n"},
	} {
		b.Run(x.name, func(b *testing.B) {
			host := restOnListener(b)
			request := restRequest(x.method, host, "/Documents/it", x.form, x.header)
			c := dialListener(b, "http://"+host, "")
			require.NoError(b, c.SetDeadline(time.Time{}))
			in := bufio.NewReader(c)
			send := func() {
				if _, err := io.WriteString(c, request); err != nil {
					b.Fatal(err)
				}
			}
			send() // learns the size of an answer
			answer, err := http.ReadResponse(in, nil)
			require.NoError(b, err)
			require.Equal(b, http.StatusOK, answer.StatusCode)
			body, err := io.ReadAll(answer.Body)
			require.NoError(b, err)
			buffer := make([]byte, 4096)
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				send()
				// As many bytes as end with the body, whose size does not change but
				// for a revision that grows by a digit.
				for size := 0; size == 0 || buffer[size-1] != body[len(body)-1]; {
					n, err := c.Read(buffer[size:])
					if err != nil {
						b.Fatal(err)
					}
					size += n
				}
			}
			b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime is what this process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
