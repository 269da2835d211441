// Package live follows one object over the realtime protocol, for as long as
// somebody looks: it opens the object, subscribes to it, and when the connection
// or the node dies goes on at another one, behind the last event that it was told.
//
// Watch runs on its caller's goroutine and starts none.
package live

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"lockstep/server/retry"
)

// Config says what to follow, and where.
type Config struct {
	URLs []string    // origins of nodes; when one is lost, the next is asked
	TLS  *tls.Config // by which their certificates are believed; nil: the usual

	// Token returns an access token. It is asked for each connection, and again
	// when a token is about to expire.
	Token func() (string, error)

	Collection string // of the API: Documents, Lists, Maps or Streams
	Type       string // of the object: document, list, map or stream
	Name       string // its SID or unique name

	// After is the last event that is known already; nil: begin with what happens
	// after the object was opened.
	After *uint64

	// Patience is how long to look for a node that answers at first. Later there is
	// no end to it. Default: 30 s.
	Patience time.Duration

	Notices Notices
}

// Notices are told of the connection. Each may be nil.
type Notices struct {
	Live func(url string)                // the subscription stands, at this node
	Lost func(err error)                 // the connection ended; another one is made
	Gap  func(sid string, opened Object) // what is between was not kept; this is the object now
}

// Object is an object as it was opened.
type Object struct {
	SID         string          `json:"sid"`
	UniqueName  *string         `json:"unique_name"`
	LastEventID uint64          `json:"last_event_id"`
	Revision    string          `json:"revision,omitempty"`
	Data        json.RawMessage `json:"data,omitempty"` // of a document
}

// Event is one change of the object, or a message of a stream.
type Event struct {
	Type string `json:"type"`         // as in the protocol: map_item_added, document_updated, …
	ID   uint64 `json:"id,omitempty"` // 0: the event has none

	Key      *string         `json:"key,omitempty"`   // of a map's item
	Index    *int64          `json:"index,omitempty"` // of a list's item
	Revision string          `json:"revision,omitempty"`
	Message  string          `json:"message_sid,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	At       string          `json:"at,omitempty"` // when it happened
	Expires  *string         `json:"expires,omitempty"`
}

// Refusal is an error that a node has answered with, after which there is no point
// in trying again.
type Refusal struct {
	Status, Code int
	Message      string
}

// Error implements error.
func (e *Refusal) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// ErrUnreachable is in the error when no node answers at first.
var ErrUnreachable = errors.New("no node answers")

const defaultPatience = 30 * time.Second

// Watch opens the object, tells opened what it is, and tells handle of each event
// once, in order, until ctx ends (then it returns nil), the object is removed (nil,
// too: the removal is the last event) or there is no point in going on. An error of
// opened or handle ends it, and is returned.
func Watch(ctx context.Context, c Config, opened func(Object) error, handle func(Event) error) error {
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	w := &watcher{config: c, opened: opened, handle: handle, giveUp: time.Now().Add(c.Patience)}
	err := retry.Until(ctx, func() error { return w.session(ctx) })
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watcher is the state that outlives connections.
type watcher struct {
	config Config
	opened func(Object) error
	handle func(Event) error
	giveUp time.Time // while the object has not been opened

	next int    // of the URLs, for the next connection
	sid  string // of the object; empty before it was opened
	last uint64 // the last event that was told
}

// session has one connection, from its beginning to its end. What it returns is
// made by retry.Final unless another connection may go on.
func (w *watcher) session(ctx context.Context) error {
	u := w.config.URLs[w.next%len(w.config.URLs)]
	w.next++
	err := w.follow(ctx, u)
	if err == nil {
		return nil
	}
	if final, ok := errors.AsType[fatal](err); ok {
		return retry.Final(final.error)
	}
	if w.sid == "" && time.Now().After(w.giveUp) {
		return retry.Final(fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
	if lost := w.config.Notices.Lost; lost != nil && w.sid != "" && ctx.Err() == nil {
		lost(err)
	}
	if stay, ok := errors.AsType[stayAway](err); ok {
		select {
		case <-ctx.Done():
		case <-time.After(stay.wait):
		}
	}
	return err
}

// fatal is an error that ends the watch.
type fatal struct{ error }

// stayAway is that a node wants to be asked later.
type stayAway struct {
	error
	wait time.Duration
}

func (w *watcher) follow(ctx context.Context, u string) error {
	token, err := w.config.Token()
	if err != nil {
		return fatal{err}
	}
	conn, err := connect(ctx, u, w.config.TLS, token)
	if err != nil {
		return err
	}
	defer conn.close()
	defer context.AfterFunc(ctx, conn.close)()
	if w.sid == "" {
		if err := w.open(conn); err != nil {
			return err
		}
	}
	if err := w.subscribe(conn); err != nil {
		return err
	}
	for {
		m, err := conn.read()
		if err != nil {
			return err
		}
		switch m.Method {
		case "notification":
			if done, err := w.notified(conn, u, m.body); done || err != nil {
				return err
			}
		case "client_update":
			token, err := w.config.Token()
			if err != nil {
				return fatal{err}
			}
			if err := conn.renew(token); err != nil {
				return err
			}
		}
	}
}

// get reads the object as it is now.
func (w *watcher) get(conn *conn) (o Object, err error) {
	a, err := conn.do(http.MethodGet, "/v3/"+w.config.Collection+"/"+url.PathEscape(w.config.Name), nil)
	if err != nil {
		return o, err
	}
	if err := json.Unmarshal(a, &o); err != nil {
		return o, fmt.Errorf("read the object: %w", err)
	}
	return o, nil
}

// open looks the object up, for the first time.
func (w *watcher) open(conn *conn) error {
	o, err := w.get(conn)
	if err != nil {
		return err
	}
	w.sid, w.last = o.SID, o.LastEventID
	if w.config.After != nil {
		w.last = *w.config.After
	}
	if err := w.opened(o); err != nil {
		return fatal{err}
	}
	return nil
}

func (w *watcher) subscribe(conn *conn) error {
	body, err := json.Marshal(map[string]any{
		"event_protocol_version": 4, "action": "establish", "correlation_id": time.Now().UnixMicro(),
		"requests": []any{map[string]any{"object_sid": w.sid, "object_type": w.config.Type, "last_event_id": w.last}},
	})
	if err != nil {
		return err
	}
	_, err = conn.do(http.MethodPost, "/v4/Subscriptions", body)
	return err
}

// notification is what a node tells of subscriptions.
type notification struct {
	Type   string     `json:"event_type"`
	Events []rawEvent `json:"events"`
}

type rawEvent struct {
	ID    uint64 `json:"id"`
	Error answer `json:"error"`

	ItemKey          *string         `json:"item_key"`
	ItemIndex        *int64          `json:"item_index"`
	ItemRevision     string          `json:"item_revision"`
	ItemData         json.RawMessage `json:"item_data"`
	DocumentRevision string          `json:"document_revision"`
	DocumentData     json.RawMessage `json:"document_data"`
	MessageSID       string          `json:"message_sid"`
	MessageData      json.RawMessage `json:"message_data"`
	ContextData      json.RawMessage `json:"context_data"`
	At               string          `json:"date_created"`
	Expires          *string         `json:"date_expires"`
}

func (w *watcher) notified(conn *conn, u string, body []byte) (done bool, err error) {
	var n notification
	if err := json.Unmarshal(body, &n); err != nil {
		return false, fmt.Errorf("read a notification: %w", err)
	}
	for _, e := range n.Events {
		switch n.Type {
		case "subscription_established":
			if live := w.config.Notices.Live; live != nil {
				live(u)
			}
		case "subscription_canceled":
		case "subscription_failed":
			done, err = w.failed(conn, e.Error)
		default:
			done, err = w.happened(n.Type, e)
		}
		if done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// failed is told that there is no subscription, or no longer.
func (w *watcher) failed(conn *conn, e answer) (done bool, err error) {
	switch e.Status {
	case http.StatusNotFound:
		return w.happened(w.config.Type+"_removed", rawEvent{})
	case http.StatusGone:
		w.config.Name = w.sid // another object may have its name by now
		o, err := w.get(conn)
		if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Status == http.StatusNotFound {
			return w.happened(w.config.Type+"_removed", rawEvent{})
		}
		if err != nil {
			return false, err
		}
		w.last = o.LastEventID
		if gap := w.config.Notices.Gap; gap != nil {
			gap(w.sid, o)
		}
		return false, w.subscribe(conn)
	}
	return false, e.refusal()
}

// happened tells of an event, unless it was told before.
func (w *watcher) happened(kind string, raw rawEvent) (done bool, err error) {
	if raw.ID != 0 {
		if raw.ID <= w.last {
			return false, nil
		}
		w.last = raw.ID
	}
	e := Event{
		Type: kind, ID: raw.ID, Key: raw.ItemKey, Index: raw.ItemIndex, Revision: raw.ItemRevision + raw.DocumentRevision,
		Message: raw.MessageSID, At: raw.At, Expires: raw.Expires,
	}
	for _, data := range []json.RawMessage{raw.ItemData, raw.DocumentData, raw.MessageData, raw.ContextData} {
		if data != nil {
			e.Data = data
		}
	}
	if err := w.handle(e); err != nil {
		return false, fatal{err}
	}
	return kind == w.config.Type+"_removed", nil
}
