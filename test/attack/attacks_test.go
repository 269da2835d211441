//go:build attack

package attack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"lockstep/server/nodedir"
	"lockstep/server/query"
	"lockstep/test/harness"
)

var attacks = []entry{
	{name: "nothing", attack: func(*arena) {}},
	{name: "live queries", prepare: bigMap, attack: liveQueries},
	{name: "large bodies", attack: largeBodies},
	{name: "unfinished first messages", attack: unfinished},
	{name: "silent strangers, leader killed", attack: silentStrangers},
	{name: "growth", env: []string{"LOCKSTEP_MAX_STATE_BYTES=64MiB"}, attack: growth},
	{name: "shared limits used up", order: order{Queries: true}, attack: usedUp, latency: queries},
	{name: "scans", env: []string{"LOCKSTEP_RATE_LIMITS=writes=100000,creations=100000"}, order: order{Queries: true}, prepare: longMap, attack: scans, latency: queries},
	{name: "hanging receivers", order: order{Receiver: "any"}, prepare: hangingServices, attack: hangingReceivers, latency: webhooks},
	{name: "strangers at gossip", attack: gossipStrangers},
	{name: "packets at gossip", attack: gossipPackets},
	{name: "refused requests", attack: flood(func(r *harness.Realtime) error {
		return r.Post("GET", "/v3/Maps/none", nil, time.Second)
	})},
	{name: "bad token updates", attack: flood(func(r *harness.Realtime) error {
		return r.Update("eyJhbGciOiJIUzI1NiJ9.e30.x", time.Second)
	})},
	{name: "websocket pings", attack: flood(func(r *harness.Realtime) error {
		return r.Conn().WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second))
	})},
	{name: "pings never read", prepare: chatter, attack: deafPings},
}

func queries(r report) []float64  { return r.Queries }
func webhooks(r report) []float64 { return r.Webhooks }

// again runs a part of the attack until it is over or fails; it is begun anew then.
func (a *arena) again(run func() error) {
	a.work.Go(func() {
		for a.ctx.Err() == nil {
			_ = run() // whatever became of it: that is what an attacker does
			select {
			case <-time.After(500 * time.Millisecond):
			case <-a.ctx.Done():
			}
		}
	})
}

// connect opens a session of an attacker that ends with the attack.
func (a *arena) connect(token string) (*harness.Realtime, error) {
	r, err := harness.Connect(a.ctx, a.target.URL, token)
	if err == nil {
		context.AfterFunc(a.ctx, r.Close)
	}
	return r, err
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

const comparisons = 14

// bigMap is a map of few large items.
func bigMap(a *arena) {
	_, err := a.target.REST().Post(a.ctx, "/Maps", harness.Form("UniqueName", "big"))
	require.NoError(a.t, err)
	for i := range 15 {
		_, err := a.target.REST().Post(a.ctx, "/Maps/big/Items", harness.Form("Key", fmt.Sprint(i), "Data", bigItem(0)))
		require.NoError(a.t, err)
	}
}

func bigItem(n int) string {
	return string(mustJSON(map[string]any{"n": n, "x": strings.Repeat("y", 15_000)}))
}

func liveQueries(a *arena) {
	sid, err := a.target.REST().SID(a.ctx, "/Maps/big")
	require.NoError(a.t, err)
	var service struct{ SID string }
	answer, err := a.target.REST().Get(a.ctx, "")
	require.NoError(a.t, err)
	require.NoError(a.t, answer.Decode(&service))
	token := a.Token("mallory")
	a.again(func() error {
		r, err := a.connect(token)
		if err != nil {
			return err
		}
		defer r.Close()
		for batch := range 20 {
			var requests []any
			for i := range 100 {
				parts := make([]string, comparisons) // each of its own: equal ones would share their work
				for k := range parts {
					parts[k] = fmt.Sprintf(`x contains "%d-%d"`, batch*100+i, k)
				}
				q, err := query.Parse(strings.Join(parts, " or "))
				if err != nil {
					return err
				}
				sum := sha256.Sum256([]byte(service.SID + sid + q.String()))
				requests = append(requests, map[string]any{
					"object_sid": "QR" + hex.EncodeToString(sum[:16]), "object_type": "live_query", "last_event_id": 0,
					"index_name": "big", "query_string": q.String(),
				})
			}
			body := mustJSON(map[string]any{"event_protocol_version": 4, "action": "establish", "correlation_id": batch + 1, "requests": requests})
			if err := r.Post("POST", "/v4/Subscriptions", body, 5*time.Second); err != nil {
				return err
			}
		}
		for {
			if _, err := r.Next(time.Minute); err != nil {
				return err
			}
		}
	})
	a.again(func() error {
		for n := range 1000 {
			path := fmt.Sprintf("/Maps/big/Items/%d", n%15)
			if _, err := a.target.REST().Do(a.ctx, "POST", path, harness.Form("Data", bigItem(n))); err != nil {
				return err
			}
			time.Sleep(250 * time.Millisecond)
		}
		return nil
	})
}

// largeBodies are requests far too large, on connections that read their
// answers a sip at a time.
func largeBodies(a *arena) {
	token := a.Token("mallory")
	body := mustJSON(map[string]any{"data": map[string]any{"x": strings.Repeat("y", 300_000)}})
	for range 60 {
		a.again(func() error {
			r, err := a.connect(token)
			if err != nil {
				return err
			}
			defer r.Close()
			for range 64 {
				if err := r.Post("POST", "/v3/Documents", body, 2*time.Second); err != nil {
					return err
				}
			}
			<-a.ctx.Done()
			return nil
		})
	}
}

// unfinished are first messages of strangers that never end.
func unfinished(a *arena) {
	at := strings.TrimPrefix(a.target.URL, "http://")
	hello := "GET /v3/wsconnect HTTP/1.1\r\nHost: " + at + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	head := binary.BigEndian.AppendUint64([]byte{0x82, 0x80 | 127}, 310_000)
	frame := append(append(head, 0, 0, 0, 0), bytes.Repeat([]byte("x"), 300_000)...)
	for range 800 {
		a.again(func() error { return a.hold(at, []byte(hello), frame) })
	}
}

// stranger is the address that attackers without a token come from.
var stranger = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 66)}

// hold opens a connection, sends, and keeps it for as long as it is let.
func (a *arena) hold(address string, parts ...[]byte) error {
	conn, err := (&net.Dialer{LocalAddr: stranger}).DialContext(a.ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(a.ctx, func() { conn.Close() })()
	for _, p := range parts {
		conn.SetWriteDeadline(time.Now().Add(3 * time.Second))
		if _, err := conn.Write(p); err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

func silentStrangers(a *arena) {
	leader := a.Leader()
	for _, n := range a.Nodes {
		record, err := nodedir.Load(n.Dir)
		require.NoError(a.t, err)
		for range 700 {
			a.again(func() error { return a.hold(record.InternalAddr) })
		}
	}
	time.Sleep(2 * time.Second)
	leader.Kill9()
	leader.Restart()
}

// growth is one token that makes objects as fast as it may.
func growth(a *arena) {
	token := a.Token("mallory")
	data := strings.Repeat("y", 16_000)
	for worker := range 8 {
		a.again(func() error {
			r, err := a.connect(token)
			if err != nil {
				return err
			}
			defer r.Close()
			for n := 0; ; n++ {
				name := fmt.Sprintf("w%d-%d-%d", worker, n, time.Now().UnixNano())
				made, err := r.Do("POST", "/v3/Maps", map[string]any{"unique_name": name})
				if err != nil {
					return err
				}
				if made.Err() != nil {
					time.Sleep(50 * time.Millisecond)
					continue
				}
				for i := range 20 {
					if _, err := r.Do("PUT", fmt.Sprintf("/v3/Maps/%s/Items/%d", name, i), map[string]any{"data": map[string]string{"x": data}}); err != nil {
						return err
					}
				}
			}
		})
	}
}

// usedUp is one identity that asks as many queries of the innocent map as it may.
func usedUp(a *arena) {
	token := a.Token("mallory")
	for range 2 {
		a.again(func() error {
			r, err := a.connect(token)
			if err != nil {
				return err
			}
			defer r.Close()
			for i := 0; ; i++ {
				if _, err := r.Do("POST", "/v3/Insights/innocent-0/Items", map[string]any{"query_string": fmt.Sprintf(`n == "%d"`, i)}); err != nil {
					return err
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// longMap is a map of many small items.
func longMap(a *arena) {
	_, err := a.target.REST().Post(a.ctx, "/Maps", harness.Form("UniqueName", "long"))
	require.NoError(a.t, err)
	var adding sync.WaitGroup
	for worker := range 32 {
		adding.Go(func() {
			for i := worker; i < 15_000; i += 32 {
				form := harness.Form("Key", fmt.Sprint(i), "Data", fmt.Sprintf(`{"n":%d,"x":"%s"}`, i, strings.Repeat("y", 200)))
				_, _ = a.target.REST().Do(a.ctx, "POST", "/Maps/long/Items", form)
			}
		})
	}
	adding.Wait()
}

func scans(a *arena) {
	token := a.Token("mallory")
	for session := range 6 {
		a.again(func() error {
			r, err := a.connect(token)
			if err != nil {
				return err
			}
			defer r.Close()
			for i := range 2000 {
				body := mustJSON(map[string]any{"query_string": fmt.Sprintf(`x contains "%d-%d"`, session, i)})
				if err := r.Post("POST", "/v3/Insights/long/Items", body, 5*time.Second); err != nil {
					return err
				}
				if i >= 60 { // as many as may be under way
					if _, err := r.Do("GET", "/v3/Maps/innocent-0", nil); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

// hangingServices are services whose receiver takes a request and says nothing.
func hangingServices(a *arena) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(a.t, err)
	a.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			if _, err := l.Accept(); err != nil { // it is closed, and its connections with the process
				return
			}
		}
	}()
	for i := range 40 {
		_, err := a.target.REST().Post(a.ctx, a.target.URL+"/v1/Services", url.Values{
			"FriendlyName": {fmt.Sprint("hanging ", i)}, "WebhookUrl": {fmt.Sprintf("http://%s/%d", l.Addr(), i)}, "WebhooksFromRestEnabled": {"true"},
		})
		require.NoError(a.t, err)
	}
}

func hangingReceivers(a *arena) {
	answer, err := a.target.REST().Get(a.ctx, a.target.URL+"/v1/Services?PageSize=100")
	require.NoError(a.t, err)
	var page struct {
		Services []struct{ SID, FriendlyName string }
	}
	require.NoError(a.t, answer.Decode(&page))
	for _, s := range page.Services {
		a.again(func() error {
			for range 20 {
				if _, err := a.target.REST().Do(a.ctx, "POST", a.target.URL+"/v1/Services/"+s.SID+"/Documents", harness.Form("Data", "{}")); err != nil {
					return err
				}
			}
			<-a.ctx.Done()
			return nil
		})
	}
}

// gossipStrangers begin messages of 19 MB that nobody could read before the end.
func gossipStrangers(a *arena) {
	record, err := nodedir.Load(a.target.Dir)
	require.NoError(a.t, err)
	const hasLabel, encrypted = 244, 10 // of memberlist's messages
	const size = 19_000_000
	head := append([]byte{hasLabel, byte(len(record.ClusterID))}, record.ClusterID...)
	head = binary.BigEndian.AppendUint32(append(head, encrypted), size)
	body := make([]byte, size)
	for range 60 {
		a.again(func() error { return a.hold(record.GossipAddr, head, body[:size-1]) })
	}
}

// gossipPackets are packets of no member, as fast as they can be sent.
func gossipPackets(a *arena) {
	record, err := nodedir.Load(a.target.Dir)
	require.NoError(a.t, err)
	const hasLabel = 244
	packet := append([]byte{hasLabel, byte(len(record.ClusterID))}, record.ClusterID...)
	packet = append(packet, make([]byte, 1200)...)
	a.again(func() error {
		conn, err := net.Dial("udp", record.GossipAddr)
		if err != nil {
			return err
		}
		defer conn.Close()
		for a.ctx.Err() == nil {
			_, _ = conn.Write(packet)
		}
		return nil
	})
}

// flood does one thing as fast as it can, and reads what comes back.
func flood(send func(*harness.Realtime) error) func(a *arena) {
	return func(a *arena) {
		token := a.Token("mallory")
		for range 2 {
			a.again(func() error {
				r, err := a.connect(token)
				if err != nil {
					return err
				}
				defer r.Close()
				a.work.Go(func() {
					_, _ = io.Copy(io.Discard, r.Conn().NetConn()) // until it is closed
				})
				for {
					if err := send(r); err != nil {
						return err
					}
				}
			})
		}
	}
}

func chatter(a *arena) {
	_, err := a.target.REST().Post(a.ctx, "/Streams", harness.Form("UniqueName", "chatter"))
	require.NoError(a.t, err)
}

// deafPings are sessions that follow a stream, ask for signs of life and never
// read one.
func deafPings(a *arena) {
	stream, err := a.target.REST().SID(a.ctx, "/Streams/chatter")
	require.NoError(a.t, err)
	token := a.Token("mallory")
	for range 4 {
		a.again(func() error {
			r, err := a.connect(token)
			if err != nil {
				return err
			}
			defer r.Close()
			if err := r.Follow(stream, "stream", 0); err != nil {
				return err
			}
			if tcp, ok := r.Conn().NetConn().(*net.TCPConn); ok {
				_ = tcp.SetReadBuffer(4 << 10) // so that little fills it
			}
			for {
				if err := r.Ping(2 * time.Second); err != nil {
					return err
				}
			}
		})
	}
	a.again(func() error {
		for {
			if _, err := a.target.REST().Do(a.ctx, "POST", "/Streams/chatter/Messages", harness.Form("Data", `{"k":1}`)); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
}
