package realtime_test

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/auth"
	"lockstep/server/panics"
	"lockstep/server/realtime"
)

// faultyKeyring panics while it is told to.
type faultyKeyring struct {
	auth.Keyring
	faulty *atomic.Bool
}

func (k faultyKeyring) Key(sid string) (auth.Key, bool) {
	if k.faulty.Load() {
		panic("keyring")
	}
	return k.Keyring.Key(sid)
}

// A fault in what one client asks for ends that client's session only, and is
// counted: before it is introduced, in a message, in a request.
func TestPanicEndsOneSessionOnly(t *testing.T) {
	metrics := prometheus.NewRegistry()
	caught := func() (count int) {
		families, err := metrics.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				count += int(m.Counter.GetValue())
			}
		}
		return count
	}
	var keys, disconnect atomic.Bool
	inWorld(t, func(c *realtime.Config) {
		c.Keyring = faultyKeyring{c.Keyring, &keys}
		c.Panics = panics.New(slog.New(slog.DiscardHandler), metrics)
		c.Disconnected = func(objects.SID, fsm.Actor, string) {
			if disconnect.Load() {
				panic("disconnected")
			}
		}
	}, func(w *world) {
		well, sick := w.connect("well"), w.connect("sick")
		m := well.create("Maps")
		well.subscribe(1, wish(m, "map", 0))
		require.Len(w, well.heard(1), 1)

		token := w.token("sick", nil)
		keys.Store(true)
		sick.send(map[string]any{"method": "update", "id": "TM1", "token": token}, "")
		_, code := sick.closes()
		require.Equal(w, -1, code)
		require.Equal(w, 1, caught())
		keys.Store(false)

		again := w.connect("sick")
		disconnect.Store(true)
		again.send(map[string]any{"method": "close", "id": "TM1"}, "")
		again.closes()
		require.Eventually(w, func() bool { return caught() == 2 }, time.Second, time.Millisecond)
		disconnect.Store(false)

		well.put(m, "k", `{"v":1}`)
		require.Len(w, well.heard(1), 1)
	})
}
