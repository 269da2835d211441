package server

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
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

// answering is a store that has carried out an update when it is asked to, so that
// what is measured is what comes before and after.
type answering struct {
	*fsmtest.Node
	updated *fsm.Result
}

// Propose implements api.Node.
func (n *answering) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	if _, ok := c.Op.(*fsm.UpdateObject); !ok {
		return n.Node.Propose(ctx, c)
	}
	var err error
	if n.updated == nil {
		n.updated, err = n.Node.Propose(ctx, c)
	}
	return n.updated, err
}

// restOnListener serves REST from a store in memory on a listener of its own, and
// returns the host. The document "it" has 256 bytes.
func restOnListener(tb testing.TB) (host string) {
	handler := rest.New(rest.Config{API: api.New(&answering{Node: fsmtest.New(time.Now)}), Keyring: fixedKeyring{}, Bodies: budget.New(-1).Share(-1), Logger: slog.New(slog.DiscardHandler)})
	l, err := listen(Config{HTTPAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)}.withDefaults(), nil, nil)
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

// asker sends the same request again and again on one connection.
type asker struct {
	tb      testing.TB
	conn    net.Conn
	request []byte
	answer  []byte
	end     byte // of the answer, by which it is known to be there
}

func newAsker(tb testing.TB, host, request string) *asker {
	a := &asker{tb: tb, conn: dialListener(tb, "http://"+host, request), request: []byte(request), answer: make([]byte, 4096)}
	answer, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	require.NoError(tb, err)
	require.Equal(tb, http.StatusOK, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(tb, err)
	require.NoError(tb, a.conn.SetDeadline(time.Time{}))
	a.end = body[len(body)-1]
	return a
}

func (a *asker) ask() {
	if _, err := a.conn.Write(a.request); err != nil {
		a.tb.Fatal(err)
	}
	for size := 0; size == 0 || a.answer[size-1] != a.end; {
		n, err := a.conn.Read(a.answer[size:])
		if err != nil {
			a.tb.Fatal(err)
		}
		size += n
	}
}

var update = "Data=" + url.QueryEscape(document(256))

// What a request costs in memory from its arrival to its answer, but for what the
// cluster does meanwhile. The race detector has pools forget some of what they keep.
func TestRESTRequestsCostLittleMemory(t *testing.T) {
	host := restOnListener(t)
	fetch := newAsker(t, host, restRequest("GET", host, "/Documents/it", "", ""))
	require.LessOrEqual(t, testing.AllocsPerRun(200, fetch.ask), 8.0)
	write := newAsker(t, host, restRequest("POST", host, "/Documents/it", update, ""))
	require.LessOrEqual(t, testing.AllocsPerRun(200, write.ask), 13.0)
}

// BenchmarkREST is one request after another on one connection through the
// listener, its client included: served as plain requests, and by net/http.
func BenchmarkREST(b *testing.B) {
	for _, x := range []struct{ name, method, form, header string }{
		{"fetch", "GET", "", ""},
		{"fetch by net/http", "GET", "", "Te: trailers\r\n"},
		{"update", "POST", update, ""},
		{"update by net/http", "POST", update, "Te: trailers\r\n"},
	} {
		b.Run(x.name, func(b *testing.B) {
			host := restOnListener(b)
			a := newAsker(b, host, restRequest(x.method, host, "/Documents/it", x.form, x.header))
			b.ReportAllocs()
			before := processorTime(b)
			for b.Loop() {
				a.ask()
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
