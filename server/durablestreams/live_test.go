package durablestreams_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/budget"
	"lockstep/server/durablestreams"
)

var caller = api.Caller{Service: fsm.Ref{SID: fsmtest.Service}}

// serve has the handler served over connections.
func (c *client) serve() (url string) {
	server := httptest.NewServer(c.handler)
	c.t.Cleanup(func() {
		c.handler.Drain()
		server.Close()
	})
	return server.URL
}

// open begins a request, whose answer is read by the caller.
func (c *client) open(url string, headers ...string) *http.Response {
	r, err := http.NewRequestWithContext(c.t.Context(), "GET", url, nil)
	require.NoError(c.t, err)
	r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { answer.Body.Close() })
	return answer
}

// event reads the next event of a stream of them; "" at its end.
func event(t *testing.T, r *bufio.Reader) (text string) {
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			return text
		}
		require.NoError(t, err)
		if line == "\n" {
			return text
		}
		text += line
	}
}

func (c *client) push(data string) {
	c.is(204, c.send("POST", lists+"l", data, "Content-Type", isJSON))
}

// must carries out an operation of the installation's owner.
func (c *client) must(op fsm.Op) {
	r, err := c.node.Propose(context.Background(), &fsm.Command{ID: commandid.New(), Op: op})
	require.NoError(c.t, err)
	require.Nil(c.t, r.Err)
}

func TestReaderIsToldOfWhatComes(t *testing.T) {
	c := start(t)
	at := next(c.is(201, c.send("PUT", lists+"l", `[1]`, "Content-Type", isJSON)))
	answer := c.open(c.serve() + lists + "l?offset=-1&live=sse")
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	events := bufio.NewReader(answer.Body)
	require.Equal(t, "event: data\ndata:[1]\n", event(t, events))
	require.Contains(t, event(t, events), `{"streamNextOffset":"`+at+`","streamCursor":"`)
	c.push(`[2,3]`)
	require.Equal(t, "event: data\ndata:[2,3]\n", event(t, events))
	control := event(t, events)
	require.Contains(t, control, `"upToDate":true`)

	// A browser that comes back says where it was.
	back := bufio.NewReader(c.open(c.serve()+lists+"l?offset=-1&live=sse", "Last-Event-ID", at).Body)
	require.Equal(t, "event: data\ndata:[2,3]\n", event(t, back))

	c.is(204, c.send("POST", lists+"l", "", "Stream-Closed", "true"))
	require.Contains(t, event(t, events), `"streamClosed":true`)
	require.Empty(t, event(t, events), "the connection ends")
}

func TestTextOfReaderCannotMakeEvents(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", "a\n\nevent: control\rdata: x\r\n b", "Content-Type", isText))
	events := bufio.NewReader(c.open(c.serve() + lists + "l?offset=-1&live=sse").Body)
	require.Equal(t, "event: data\ndata:a\ndata:\ndata:event: control\ndata:data: x\ndata:  b\n", event(t, events))
}

func TestPollIsAnsweredWhenThereIsSomething(t *testing.T) {
	c := start(t)
	at := next(c.is(201, c.send("PUT", lists+"l", `[1]`, "Content-Type", isJSON)))
	url := c.serve() + lists + "l?live=long-poll&offset="
	body := func(r *http.Response) string {
		b, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		return string(b)
	}
	require.Equal(t, "[1]", body(c.open(url+"-1")))
	told := make(chan *http.Response, 1)
	go func() { told <- c.open(url + "now") }()
	require.Eventually(t, func() bool { return c.hub.Topics() > 0 }, 5*time.Second, time.Millisecond)
	c.push(`2`)
	answer := <-told
	require.Equal(t, 200, answer.StatusCode)
	require.Equal(t, "[2]", body(answer))
	require.NotEmpty(t, answer.Header.Get("Stream-Cursor"))

	nothing := c.open(url + answer.Header.Get("Stream-Next-Offset") + "&cursor=" + answer.Header.Get("Stream-Cursor"))
	require.Equal(t, 204, nothing.StatusCode)
	require.Greater(t, nothing.Header.Get("Stream-Cursor"), answer.Header.Get("Stream-Cursor"))
	require.Equal(t, "true", nothing.Header.Get("Stream-Up-To-Date"))

	c.is(204, c.send("POST", lists+"l", "", "Stream-Closed", "true"))
	ended := c.open(url + nothing.Header.Get("Stream-Next-Offset"))
	require.Equal(t, 204, ended.StatusCode)
	require.Equal(t, "true", ended.Header.Get("Stream-Closed"))
	require.Equal(t, "[2]", body(c.open(url+at)))
	require.Equal(t, 400, c.open(strings.TrimSuffix(url, "&offset=")).StatusCode)
	require.Equal(t, 400, c.open(strings.Replace(url, "long-poll", "x", 1)+"-1").StatusCode)
}

// That a client goes while it waits is its right, and no line of the log.
func TestPollerMayGo(t *testing.T) {
	log := new(bytes.Buffer)
	c := start(t, func(_ *client, config *durablestreams.Config) {
		config.LongPoll = time.Minute
		config.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	c.is(201, c.send("PUT", lists+"l", "", "Content-Type", isJSON))
	ctx, goes := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", lists+"l?live=long-poll&offset=now", nil)
	r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.handler.ServeHTTP(httptest.NewRecorder(), r)
	}()
	require.Eventually(t, func() bool { return c.hub.Topics() > 0 }, 5*time.Second, time.Millisecond)
	goes()
	<-served
	require.Empty(t, log.String())
	require.Zero(t, c.hub.Topics())
}

// A live reader goes when it may not read any more, and when the node wants it to.
func TestReaderIsSentAway(t *testing.T) {
	key := objects.NewSID(objects.KindKey, [16]byte{1})
	for name, why := range map[string]func(c *client){
		"permission": func(c *client) {
			_, _, err := c.api.SetPermission(context.Background(), caller, objects.KindList, fsm.Ref{Name: "l"}, "alice", 0)
			require.NoError(t, err)
		},
		"list":  func(c *client) { c.is(204, c.send("DELETE", lists+"l", "")) },
		"key":   func(c *client) { c.must(&fsm.RevokeKey{SID: key}) },
		"drain": func(c *client) { c.handler.Drain() },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			_, err := c.api.UpdateService(t.Context(), caller, &fsm.UpdateService{ACLEnabled: new(true)})
			require.NoError(t, err)
			c.is(201, c.send("PUT", lists+"l", "", "Authorization", "Bearer alice"))
			url := c.serve() + lists + "l?offset=now&live=sse"
			credentials := []string{"Authorization", "Bearer alice"}
			if name == "key" {
				c.must(&fsm.CreateKey{SID: key, Secret: "secret"})
				credentials[1] = "Basic " + base64.StdEncoding.EncodeToString([]byte(key.String()+":secret"))
			}
			events := bufio.NewReader(c.open(url, credentials...).Body)
			require.Contains(t, event(t, events), "control")
			why(c)
			require.Empty(t, event(t, events))
			if name == "drain" {
				require.Equal(t, 503, c.open(url, "Authorization", "Bearer alice").StatusCode)
				c.handler.Resume()
				require.Equal(t, 200, c.open(url, "Authorization", "Bearer alice").StatusCode)
			}
		})
	}
}

func TestTokenEndsItsReader(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", ""))
	c.lifetime = 50 * time.Millisecond
	events := bufio.NewReader(c.open(c.serve()+lists+"l?offset=now&live=sse", "Authorization", "Bearer alice").Body)
	require.Contains(t, event(t, events), "control")
	require.Empty(t, event(t, events))
}

func TestReadersOfOneIdentityAreBounded(t *testing.T) {
	c := start(t)
	c.is(201, c.send("PUT", lists+"l", ""))
	url := c.serve() + lists + "l?offset=now&live=sse"
	for range 8 {
		require.Equal(t, 200, c.open(url, "Authorization", "Bearer alice").StatusCode)
	}
	require.Equal(t, 429, c.open(url, "Authorization", "Bearer alice").StatusCode)
	require.Equal(t, 200, c.open(url, "Authorization", "Bearer bob").StatusCode)
}

func TestMessagesOfStreamsAreHeard(t *testing.T) {
	c := start(t)
	_, err := c.api.CreateObject(t.Context(), caller, objects.KindStream, api.Create{Name: new("s")})
	require.NoError(t, err)
	events := bufio.NewReader(c.open(c.serve() + "/v1/Services/default/durable/Streams/s?offset=now&live=sse").Body)
	require.Contains(t, event(t, events), "control")
	_, _, err = c.api.Publish(t.Context(), caller, fsm.Ref{Name: "s"}, []byte(`{"x":1}`))
	require.NoError(t, err)
	require.Equal(t, "event: data\ndata:[{\"x\":1}]\n", event(t, events))
}

// takes is a client that takes nothing until it is told to.
type takes struct {
	*httptest.ResponseRecorder
	begun chan struct{} // closed when something is written
	may   chan struct{}
	once  sync.Once
}

func (w *takes) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.may
	return w.ResponseRecorder.Write(b)
}

// What a reader has not taken yet keeps the next one of its identity waiting, not more
// bytes in memory.
func TestWhatReadersDoNotTakeIsBounded(t *testing.T) {
	answers := budget.New(-1)
	c := start(t, func(_ *client, config *durablestreams.Config) { config.Answers = answers.Share(10) })
	c.is(201, c.send("PUT", lists+"l", `["a message of some length"]`, "Content-Type", isJSON))
	request := func() *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), "GET", lists+"l?live=long-poll&offset=-1", nil)
		r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
		return r
	}
	slow := &takes{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), may: make(chan struct{})}
	var served sync.WaitGroup
	served.Go(func() { c.handler.ServeHTTP(slow, request()) })
	<-slow.begun
	require.Greater(t, answers.Used(), int64(10))

	next := &takes{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{}), may: make(chan struct{})}
	served.Go(func() { c.handler.ServeHTTP(next, request()) })
	select {
	case <-next.begun:
		t.Error("another one is written to")
	case <-time.After(100 * time.Millisecond):
	}
	close(slow.may)
	<-next.begun
	close(next.may)
	served.Wait()
	require.Equal(t, `["a message of some length"]`, next.Body.String())
	require.Zero(t, answers.Used())
}
