package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// Realtime is a client of the realtime protocol: as much of it as it takes to
// subscribe, to acknowledge, and to make requests. Any number of goroutines may
// use it. One goroutine reads, until Close.
type Realtime struct {
	ws     *WebSocket
	config RealtimeConfig
	reader sync.WaitGroup

	mu      sync.Mutex
	seq     int
	waiting map[string]func(Answer, error)
	ended   error
}

// RealtimeConfig sets up a client.
type RealtimeConfig struct {
	Token string
	Trust *tls.Config // which certificates are believed, as for DialHTTP

	// Acknowledge has every notification answered, as the official client does.
	Acknowledge bool

	// Notified is given the payload of each notification, by the goroutine that
	// reads; it is valid until it returns. May be nil.
	Notified func(payload []byte)
}

// errClosed is what requests get that wait when the client is closed.
var errClosed = errors.New("the connection was closed")

// DialRealtime connects to a node, and introduces itself.
func DialRealtime(ctx context.Context, origin string, config RealtimeConfig) (*Realtime, error) {
	ws, err := DialWebSocket(ctx, origin, "/v3/wsconnect", config.Trust)
	if err != nil {
		return nil, err
	}
	r := &Realtime{ws: ws, config: config, waiting: make(map[string]func(Answer, error))}
	r.reader.Go(r.read)
	a, err := r.wait(ctx, func(id string) error {
		return r.send(`{"method":"init","id":"`+id+`","token":"`+config.Token+`","metadata":{"type":"sync","sdk":"load"},`+
			`"registrations":[{"product":"data_sync","type":"ers","notification_protocol_version":0,"message_types":["twilio.sync.event"]}],`+
			`"capabilities":["client_update"],"payload_size":0}`, nil)
	})
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("introduce a realtime client: %w", err), r.Close())
	}
	return r, nil
}

// Close ends the connection, and waits for the goroutine that reads.
func (r *Realtime) Close() error {
	err := r.ws.Close()
	r.reader.Wait()
	return err
}

// Do makes a request and waits for its answer. An answer that is not a success is
// Refused.
func (r *Realtime) Do(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	a, err := r.wait(ctx, func(id string) error { return r.request(id, method, path, body) })
	if err == nil {
		err = a.Err()
	}
	return a.Body, err
}

// Post sends a request. answered is called with what becomes of it, by the
// goroutine that reads.
func (r *Realtime) Post(method, path string, body []byte, answered func(error)) error {
	id, err := r.expect(func(a Answer, err error) {
		if err == nil {
			err = a.Err()
		}
		answered(err)
	})
	if err != nil {
		return err
	}
	return r.request(id, method, path, body)
}

// wait sends something and waits for the answer.
func (r *Realtime) wait(ctx context.Context, send func(id string) error) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	type outcome struct {
		Answer
		err error
	}
	answered := make(chan outcome, 1)
	id, err := r.expect(func(a Answer, err error) {
		a.Body = bytes.Clone(a.Body)
		answered <- outcome{a, err}
	})
	if err != nil {
		return Answer{}, err
	}
	if err := send(id); err != nil {
		return Answer{}, err
	}
	select {
	case o := <-answered:
		return o.Answer, o.err
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}

// expect returns the id of a message whose answer is waited for.
func (r *Realtime) expect(answered func(Answer, error)) (id string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != nil {
		return "", r.ended
	}
	r.seq++
	id = "TM" + strconv.Itoa(r.seq)
	r.waiting[id] = answered
	return id, nil
}

func (r *Realtime) request(id, method, path string, body []byte) error {
	return r.send(`{"method":"message","id":"`+id+`","active_grant":"data_sync","payload_type":"application/json","payload_size":`+strconv.Itoa(len(body))+
		`,"http_request":{"host":"cds","path":"`+path+`","method":"`+method+`","params":{},"headers":{"Content-Type":"application/json"}}}`, body)
}

// send sends a message: the header has the size of the payload.
func (r *Realtime) send(header string, payload []byte) error {
	b := make([]byte, 0, len(header)+len(payload)+32)
	b = strconv.AppendInt(append(b, "TWILSOCK V3.0 "...), int64(len(header)), 10)
	b = append(append(append(b, "\r\n"...), header...), "\r\n"...)
	return r.ws.Write(Binary, append(b, payload...))
}

// read takes in what comes, until the connection ends.
func (r *Realtime) read() {
	for {
		message, err := r.ws.Read()
		if err == nil {
			err = r.take(message)
		}
		if err != nil {
			r.end(errors.Join(errClosed, err))
			return
		}
	}
}

var errMessage = errors.New("not a message of the protocol")

func (r *Realtime) take(message []byte) error {
	line, rest, found := bytes.Cut(message, []byte("\r\n"))
	size, err := strconv.Atoi(string(bytes.TrimPrefix(line, []byte("TWILSOCK V3.0 "))))
	if err != nil || !found || size < 0 || len(rest) < size+2 {
		return errMessage
	}
	head, payload := rest[:size], rest[size+2:]
	switch method := gjson.GetBytes(head, "method").Str; method {
	case "reply":
		r.answered(head, payload)
		return nil
	case "notification":
		if r.config.Notified != nil {
			r.config.Notified(payload)
		}
		if !r.config.Acknowledge {
			return nil
		}
	case "ping":
	case "close":
		return fmt.Errorf("the node closed it: %s", gjson.GetBytes(head, "status").Raw)
	default:
		return nil
	}
	return r.send(`{"method":"reply","id":"`+gjson.GetBytes(head, "id").Str+`","payload_type":"application/json","status":{"code":200,"status":"OK"},"payload_size":0}`, nil)
}

func (r *Realtime) answered(head, payload []byte) {
	id := gjson.GetBytes(head, "id").Str
	r.mu.Lock()
	answered := r.waiting[id]
	delete(r.waiting, id)
	r.mu.Unlock()
	if answered == nil {
		return
	}
	status := gjson.GetBytes(head, "http_status.code") // of the request in the tunnel
	if !status.Exists() {
		status = gjson.GetBytes(head, "status.code")
	}
	a := Answer{Status: int(status.Int()), Body: payload}
	if wait := gjson.GetBytes(payload, "backoff_policy.reconnect_min_ms"); wait.Exists() {
		a.RetryAfter = time.Duration(wait.Int()) * time.Millisecond
	}
	answered(a, nil)
}

// end tells all who wait that nothing comes any more.
func (r *Realtime) end(err error) {
	r.mu.Lock()
	r.ended = err
	waiting := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	for _, answered := range waiting {
		answered(Answer{}, err)
	}
}
