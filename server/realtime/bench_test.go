package realtime

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// BenchmarkFanOut has one event delivered to many subscribers, each behind its
// own connection in memory, down to the bytes at the client's end.
// ns/delivery and allocs/delivery are what one subscriber costs, its reader
// included.
func BenchmarkFanOut(b *testing.B) {
	for _, subscribers := range []int{1000, 5000} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) { fanOut(b, subscribers) })
	}
}

func fanOut(b *testing.B, subscribers int) {
	r := start(b)
	// Messages of a stream have no ids: all their frames are of one size.
	s := r.create(objects.KindStream, "s")
	data := `{"text":"a message of ordinary length, as chats have them"}`
	size := len(eventFrame(r.server.form, &objects.Event{
		Type: objects.MessagePublished, Object: s, At: 1, Message: &objects.Message{SID: s.SID, Data: []byte(data)},
	}, nil))

	var missing atomic.Int64 // bytes
	all := make(chan struct{}, 1)
	var readers sync.WaitGroup
	for i := range subscribers {
		c := r.openPipe()
		c.send(map[string]any{"method": "init", "token": token(b, fmt.Sprint("user", i))}, nil)
		c.read()
		c.request("POST", "/v4/Subscriptions", `{"action":"establish","correlation_id":1,"requests":[`+to(s, 0)+`]}`)
		c.read() // the reply
		c.read() // established
		readers.Go(func() {
			buffer := make([]byte, 4096)
			for {
				n, err := c.conn.NetConn().Read(buffer)
				if err != nil {
					return
				}
				if missing.Add(-int64(n)) == 0 {
					all <- struct{}{}
				}
			}
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		missing.Store(int64(subscribers * size))
		r.publish(s, data)
		<-all
	}
	runtime.ReadMemStats(&after)
	deliveries := float64(b.N * subscribers)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/deliveries, "ns/delivery")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/deliveries, "allocs/delivery")
	require.NoError(b, r.server.Close())
	readers.Wait()
}

// read takes one message from a client that has no reader.
func (c *client) read() received {
	_, b, err := c.conn.ReadMessage()
	require.NoError(c.t, err)
	return parse(c.t, b)
}
