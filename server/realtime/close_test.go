package realtime_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/server/realtime"
)

// closing is a way to have a connection end.
type closing struct {
	config func(*realtime.Config)
	cause  func(w *world) *client
}

// closings are one way for each reason in the table.
func closings(keys *atomic.Bool) map[string]closing {
	return map[string]closing{
		"foreign": {cause: func(w *world) *client { return w.dialPath(realtime.OldPath) }},
		"malformed": {cause: func(w *world) *client {
			c := w.connect("alice")
			c.raw([]byte("garbage"))
			return c
		}},
		"unauthorized": {cause: func(w *world) *client {
			c := w.dial()
			c.begin(request("POST", "/v3/Documents", nil, nil), `{}`)
			return c
		}},
		"rejected": {cause: func(w *world) *client {
			c := w.dial()
			c.send(map[string]any{"method": "init", "id": "i", "token": "no token at all"}, "")
			return c
		}},
		"token_expired": {cause: func(w *world) *client {
			c := w.dial()
			c.init(w.token("alice", lifetime(30*time.Second)))
			return c
		}},
		"flood": {
			config: func(c *realtime.Config) { c.SessionRequests, c.FloodRefusals = 1, 3 },
			cause: func(w *world) *client {
				c := w.connect("alice")
				for range 50 {
					c.write(encode(map[string]any{"method": "ping", "id": "p"}, "")) // fails at the end
				}
				return c
			},
		},
		"drained": {cause: func(w *world) *client {
			c := w.connect("alice")
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			w.Cleanup(cancel)
			c.reading.Go(func() { w.endpoint.Drain(ctx) })
			return c
		}},
		"message_too_big": {
			config: func(c *realtime.Config) { c.DiscardBytes = 1 << 17 },
			cause: func(w *world) *client {
				c := w.connect("alice")
				big := request("POST", "/v3/Documents", nil, nil)
				big["id"] = "TMbig"
				c.reading.Go(func() { c.write(encode(big, strings.Repeat("x", 1<<17))) }) // fails half-way
				return c
			},
		},
		"slow": {cause: func(w *world) *client {
			c := w.connect("alice")
			m := c.create("Maps")
			c.put(m, "k", `"`+strings.Repeat("x", 12_000)+`"`)
			c.holdUp()
			for range 3 {
				c.begin(request("GET", "/v3/Maps/"+m+"/Items/k", nil, nil), "")
			}
			time.Sleep(time.Minute)
			c.letGo()
			return c
		}},
		"overrun": {cause: func(w *world) *client {
			c := w.connect("alice")
			synctest.Wait()
			w.endpoint.Overrun()
			return c
		}},
		"silent": {cause: func(w *world) *client { return w.connect("alice") }},
		"evicted": {
			config: func(c *realtime.Config) { c.Arrivals = 1 },
			cause: func(w *world) *client {
				c := w.dial()
				synctest.Wait()
				w.connect("alice")
				return c
			},
		},
		"fault": {
			config: func(c *realtime.Config) { c.Keyring = faultyKeyring{c.Keyring, keys} },
			cause: func(w *world) *client {
				c, another := w.connect("alice"), w.token("alice", nil)
				keys.Store(true)
				c.send(map[string]any{"method": "update", "id": "u", "token": another}, "")
				return c
			},
		},
		"client": {cause: func(w *world) *client {
			c := w.connect("alice")
			c.send(map[string]any{"method": "close", "id": "b"}, "")
			return c
		}},
		"lost": {cause: func(w *world) *client {
			c := w.connect("alice")
			c.ws.NetConn().Close()
			return c
		}},
	}
}

// Each reason says goodbye as the table has it, and is counted once, under its name.
func TestEveryCloseIsOneOfTheTable(t *testing.T) {
	var keys atomic.Bool
	table, ways := realtime.Closes(), closings(&keys)
	for reason, want := range table {
		way, ok := ways[reason]
		require.True(t, ok, "nothing closes a connection for the reason %q", reason)
		t.Run(reason, func(t *testing.T) {
			keys.Store(false)
			metrics := prometheus.NewRegistry()
			inWorld(t, func(c *realtime.Config) {
				c.Metrics = metrics
				if way.config != nil {
					way.config(c)
				}
			}, func(w *world) {
				last, code := way.cause(w).closes()
				if want.Websocket == 0 {
					want.Websocket = -1
				}
				if reason != "message_too_big" || code != -1 { // the client may still be writing, and see no more
					require.Equal(w, want.Websocket, code)
				}
				if want.Code != 0 {
					require.Equal(w, "close", last.Method)
					require.Equal(w, status{Code: want.Code, Status: want.Status}, last.Status)
					require.Equal(w, want.Backoff > 0, strings.Contains(string(last.body), "reconnect_min_ms"))
				} else {
					require.NotEqual(w, "close", last.Method)
				}
				synctest.Wait()
				counted := closed(w, metrics)
				require.Len(w, counted, len(table), "the metric has a label for each row")
				for label, count := range counted {
					require.Contains(w, table, label)
					require.Equal(w, label == reason, count == 1, "%s: %v", label, count)
				}
			})
		})
	}
	require.Len(t, ways, len(table))
}

// closed returns how many connections have ended, by reason.
func closed(w *world, metrics *prometheus.Registry) map[string]float64 {
	families, err := metrics.Gather()
	require.NoError(w, err)
	counted := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "lockstep_sessions_closed_total" {
			for _, m := range f.Metric {
				counted[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	return counted
}

// What closes a connection is made in close.go and nowhere else, so that no close
// is left out of the table.
func TestOnlyTheTableMakesClosingFrames(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	made := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "AppendClose" || s.Sel.Name == "AppendGoodbye") {
				require.Equal(t, "close.go", file, "%s closes a connection by itself", file)
				made++
			}
			return true
		})
	}
	require.NotZero(t, made)
}
