package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector of traces: which nodes have sent a span, by its name.
type spans struct {
	mu   sync.Mutex
	seen map[string]map[string]bool // of one trace
}

func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range sent.ResourceSpans {
		node := ""
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.instance.id" {
				node = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			for _, span := range scope.Spans {
				if string(span.TraceId) != followedTrace {
					continue
				}
				if s.seen[span.Name] == nil {
					s.seen[span.Name] = map[string]bool{}
				}
				s.seen[span.Name][node] = true
			}
		}
	}
}

func (s *spans) by(name, node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name][node]
}

const followedTrace = "0123456789abcdef"

// A write through a node that does not lead is followed from its request to the
// leader's commit, in the trace that its client has begun.
func TestWriteIsFollowedAcrossNodes(t *testing.T) {
	seen := &spans{seen: map[string]map[string]bool{}}
	to := httptest.NewServer(seen)
	defer to.Close()
	first := start(t, Config{DataDir: dataDir(t), NodeID: "first", Bootstrap: true, Account: testAccount, Trace: Trace{URL: to.URL}})
	first.untilReady(t)
	second := start(t, Config{DataDir: dataDir(t), NodeID: "second", Join: first.url, Account: testAccount, Trace: Trace{URL: to.URL}})
	second.untilReady(t)

	form := url.Values{"UniqueName": {"followed"}, "Data": {"{}"}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", second.url+"/v1/Services/default/Documents", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("traceparent", "00-30313233343536373839616263646566-00f067aa0ba902b7-01")
	req.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)

	stream, err := http.NewRequestWithContext(t.Context(), "PUT", second.url+"/v1/Services/default/durable/Lists/followed", strings.NewReader("[1]"))
	require.NoError(t, err)
	stream.Header.Set("Content-Type", "application/json")
	stream.Header.Set("traceparent", "00-30313233343536373839616263646566-00f067aa0ba902b7-01")
	stream.SetBasicAuth(testAccount.SID, testAccount.AuthToken)
	res, err = http.DefaultClient.Do(stream)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)

	for name, node := range map[string]string{
		"REST POST": "second", "durable PUT": "second", "propose": "second", "forward": "second", "fan-out": "second",
		"queue": "first", "commit": "first", "apply": "first",
	} {
		require.Eventually(t, func() bool { return seen.by(name, node) }, 10*time.Second, 10*time.Millisecond, "%s by %s", name, node)
	}
	require.NoError(t, second.end(t))
	require.NoError(t, first.end(t))
}
