package load

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"
)

// Size is how many bytes of data are written and published at a time.
const Size = 256

// Documents makes n documents, and returns their SIDs. made, which may be nil,
// follows how many there are.
func (c *Cluster) Documents(ctx context.Context, n int, made *atomic.Int64) ([]string, error) {
	sids := make([]string, n)
	form := url.Values{"Data": {Data(Size)}}
	err := c.Fill(ctx, n, func(int) (string, url.Values) { return "/Documents", form }, func(i int, sid string) {
		sids[i] = sid
		if made != nil {
			made.Add(1)
		}
	})
	return sids, err
}

// restClient does one request again and again, each time on another object.
type restClient struct {
	*REST
	method string
	paths  []string
	form   []byte
}

func (w *restClient) Do(ctx context.Context, n int) error {
	_, err := w.send(ctx, w.method, w.paths[n%len(w.paths)], w.form)
	return err
}

func (c *Cluster) pathsOf(collection string, names []string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = c.Path(collection + "/" + name)
	}
	return paths
}

// Writers returns clients that update objects, or items, of a collection.
func (c *Cluster) Writers(collection string, names []string) func(context.Context, int) (Client, error) {
	paths, form := c.pathsOf(collection, names), []byte(url.Values{"Data": {Data(Size)}}.Encode())
	return func(_ context.Context, i int) (Client, error) {
		return &restClient{c.REST(i), "POST", paths, form}, nil
	}
}

// Readers returns clients that read objects, or items, of a collection. Reads are
// linearizable.
func (c *Cluster) Readers(collection string, names []string) func(context.Context, int) (Client, error) {
	paths := c.pathsOf(collection, names)
	return func(_ context.Context, i int) (Client, error) { return &restClient{c.REST(i), "GET", paths, nil}, nil }
}

// realtimeWriter updates documents by the realtime protocol.
type realtimeWriter struct {
	session *Realtime
	sids    []string
	body    []byte
}

// RealtimeWriters returns clients that update documents by the realtime protocol.
func (c *Cluster) RealtimeWriters(sids []string) func(context.Context, int) (Client, error) {
	body := []byte(`{"data":` + Data(Size) + `}`)
	return func(ctx context.Context, i int) (Client, error) {
		s, err := c.session(ctx, i, "writer", RealtimeConfig{})
		return &realtimeWriter{s, sids, body}, err
	}
}

func (w *realtimeWriter) Do(ctx context.Context, n int) error {
	_, err := w.session.Do(ctx, "POST", "/v3/Documents/"+w.sids[n%len(w.sids)], w.body)
	return err
}

func (w *realtimeWriter) Close() error { return w.session.Close() }

// session connects the i-th client of a kind, with an identity of its own. When a
// node takes no more connections for the moment, it is tried again.
func (c *Cluster) session(ctx context.Context, i int, kind string, config RealtimeConfig) (*Realtime, error) {
	config.Trust = c.Trust
	var err error
	if config.Token, err = c.Token(fmt.Sprintf("%s-%d", kind, i)); err != nil {
		return nil, err
	}
	for again := time.Now().Add(time.Minute); ; {
		s, err := DialRealtime(ctx, c.URLs[i%len(c.URLs)], config)
		if !limited(err) || time.Now().After(again) {
			return s, err
		}
		sleep(ctx, time.Second)
	}
}

// Subscribers are clients that each follow one object.
type Subscribers struct {
	sessions []*Realtime
}

// Close closes them all.
func (s *Subscribers) Close() error {
	var errs []error
	for _, r := range s.sessions {
		if r != nil {
			errs = append(errs, r.Close())
		}
	}
	return errors.Join(errs...)
}

// Following says what clients subscribe to.
type Following struct {
	Kind        string   // of the objects: document, map, list or stream
	Objects     []string // SIDs; the i-th client follows the i-th, and so on from the first
	Clients     int
	Acknowledge bool
	Progress    *atomic.Int64 // grows with each client that is established; may be nil

	// Heard is given each notification, with the number of the client, and returns
	// how many changes were in it.
	Heard func(client int, payload []byte) (changes int64)
}

// Subscribe connects clients, and returns when all subscriptions are established.
func (c *Cluster) Subscribe(ctx context.Context, f Following) (*Subscribers, error) {
	s := &Subscribers{sessions: make([]*Realtime, f.Clients)}
	err := Parallel(ctx, 32, f.Clients, func(ctx context.Context, i int) (err error) {
		if s.sessions[i], err = c.follow(ctx, i, f); err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		if f.Progress != nil {
			f.Progress.Add(1)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (c *Cluster) follow(ctx context.Context, i int, f Following) (*Realtime, error) {
	established := make(chan error, 1)
	s, err := c.session(ctx, i, "subscriber", RealtimeConfig{Acknowledge: f.Acknowledge, Notified: func(payload []byte) {
		if f.Heard(i, payload) > 0 {
			return
		}
		if outcome, told := outcomeOf(payload); told {
			select {
			case established <- outcome:
			default:
			}
		}
	}})
	if err != nil {
		return nil, err
	}
	object := f.Objects[i%len(f.Objects)]
	_, err = s.Do(ctx, "POST", "/v4/Subscriptions", fmt.Appendf(nil,
		`{"event_protocol_version":4,"action":"establish","correlation_id":1,"requests":[{"object_sid":%q,"object_type":%q}]}`, object, f.Kind))
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		select {
		case err = <-established:
		case <-ctx.Done():
			err = fmt.Errorf("the subscription is not established: %w", ctx.Err())
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// outcomeOf returns what a notification tells of a subscription, if it does.
func outcomeOf(payload []byte) (failed error, told bool) {
	switch gjson.GetBytes(payload, "event_type").Str {
	case "subscription_established":
		return nil, true
	case "subscription_failed":
		return fmt.Errorf("the subscription failed: %.300s", payload), true
	}
	return nil, false
}

// Stream makes a message stream.
func (c *Cluster) Stream(ctx context.Context) (sid string, err error) {
	err = c.Fill(ctx, 1, func(int) (string, url.Values) { return "/Streams", url.Values{} }, func(_ int, made string) { sid = made })
	return sid, err
}

// Publisher publishes stamped messages to a stream by the realtime protocol. It has
// to be closed.
type Publisher struct {
	session *Realtime
	meter   *Meter
	path    string
}

// Publisher connects one.
func (c *Cluster) Publisher(ctx context.Context, stream string, meter *Meter) (*Publisher, error) {
	s, err := c.session(ctx, 0, "publisher", RealtimeConfig{})
	return &Publisher{s, meter, "/v3/Streams/" + stream + "/Messages"}, err
}

// Publish sends a message, and does not wait for its answer.
func (p *Publisher) Publish(int) error {
	return p.session.Post("POST", p.path, []byte(`{"data":{"v":"`+string(Stamped(Size))+`"}}`), p.meter.Note)
}

// Close ends the publisher's connection.
func (p *Publisher) Close() error { return p.session.Close() }
