package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/server/transfer"
)

// Source is an installation of the REST API that records are read from. One goroutine
// uses it; see fork.
type Source struct {
	Client *client.Client
	Name   string // its origin, for people

	// Patience is how long a request is repeated that is refused for now, or fails.
	// Default: 5 minutes.
	Patience time.Duration
}

// fork returns the same source for another goroutine.
func (s *Source) fork() *Source {
	c, other := *s.Client, *s
	c.URLs = append([]string{}, c.URLs...)
	other.Client = &c
	return &other
}

// objectKinds are the kinds of object in the order in which they are read, and their
// names in paths.
var objectKinds = []string{transfer.Document, transfer.List, transfer.Map, transfer.Stream}

var collections = map[string]string{transfer.Document: "Documents", transfer.List: "Lists", transfer.Map: "Maps", transfer.Stream: "Streams"}

func pathOf(rec *transfer.Record, below ...string) string {
	return client.Path(append([]string{"Services", rec.ServiceSID, collections[rec.Kind], rec.SID}, below...)...)
}

// get does one request until it succeeds and read takes the answer, or there is no
// point in it.
func (s *Source) get(ctx context.Context, path string, query url.Values, read func(json.RawMessage) error) error {
	patience := s.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	return persist(ctx, patience, func() (wait time.Duration, err error) {
		var body json.RawMessage
		err = s.Client.Do(ctx, client.Request{Method: http.MethodGet, Path: path, Query: query}, &body)
		refused, answered := errors.AsType[*client.Error](err)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case answered && (refused.Status == http.StatusTooManyRequests || refused.Status >= http.StatusInternalServerError):
			return max(soon, refused.RetryAfter), err
		case answered:
			return 0, err
		case err == nil:
			err = read(body) // what is cut off or damaged may come whole the next time
		}
		return soon, err
	})
}

// errAnswer is in the error when an answer is not what the API says.
var errAnswer = errors.New("the source's answer is not that of the API")

// page is a page of a collection.
type page struct {
	entries []json.RawMessage
	next    *url.URL // nil: it is the last one
}

func readPage(body json.RawMessage) (p page, err error) {
	var head struct {
		Meta *struct {
			Key  string  `json:"key"`
			Next *string `json:"next_page_url"`
		} `json:"meta"`
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &head); err != nil {
		return p, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if head.Meta == nil {
		return p, fmt.Errorf("%w: a page has no meta", errAnswer)
	}
	if err := json.Unmarshal(body, &members); err != nil {
		return p, fmt.Errorf("%w: %w", errAnswer, err)
	}
	if err := json.Unmarshal(members[head.Meta.Key], &p.entries); err != nil {
		return p, fmt.Errorf("%w: a page has no %q: %w", errAnswer, head.Meta.Key, err)
	}
	if head.Meta.Next == nil || *head.Meta.Next == "" {
		return p, nil
	}
	p.next, err = url.Parse(*head.Meta.Next)
	if err != nil || !strings.HasPrefix(p.next.Path, "/v1/") {
		return p, fmt.Errorf("%w: the next page is at %q", errAnswer, *head.Meta.Next)
	}
	return p, nil
}

// list reads a collection page by page. A page's successor is asked for at the origin
// that was given, whatever host its URL names: the credentials go nowhere else.
func (s *Source) list(ctx context.Context, path string, kind string) iter.Seq2[*transfer.Record, error] {
	return func(yield func(*transfer.Record, error) bool) {
		query := url.Values{"PageSize": {"100"}}
		var mark string // of a page before, moved on at each power of two: a ring of pages comes back to it
		for turned, limit := 0, 1; ; turned++ {
			var p page
			var records []*transfer.Record
			err := s.get(ctx, path, query, func(body json.RawMessage) (err error) {
				if p, err = readPage(body); err != nil {
					return err
				}
				records, err = readRecords(p.entries, kind)
				return err
			})
			if err != nil {
				yield(nil, err)
				return
			}
			for _, rec := range records {
				if !yield(rec, nil) {
					return
				}
			}
			if p.next == nil {
				return
			}
			at := p.next.EscapedPath() + "?" + p.next.RawQuery
			if at == mark {
				yield(nil, fmt.Errorf("%w: the pages of %s go round in a ring", errAnswer, path))
				return
			}
			if turned == limit {
				mark, limit = at, 2*limit
			} else if mark == "" {
				mark = at
			}
			path, query = p.next.EscapedPath(), p.next.Query()
		}
	}
}

func readRecords(entries []json.RawMessage, kind string) ([]*transfer.Record, error) {
	records := make([]*transfer.Record, len(entries))
	for i, raw := range entries {
		rec := new(transfer.Record)
		if err := json.Unmarshal(raw, rec); err != nil {
			return nil, fmt.Errorf("%w: %w", errAnswer, err)
		}
		rec.Kind, rec.Items, rec.Remove = kind, nil, false
		records[i] = rec
	}
	return records, nil
}

// services returns the services that are meant.
func (s *Source) services(ctx context.Context, only Filter) iter.Seq2[*transfer.Record, error] {
	return func(yield func(*transfer.Record, error) bool) {
		for rec, err := range s.list(ctx, client.Path("Services"), transfer.Service) {
			if (err != nil || only.has(rec)) && !yield(rec, err) {
				return
			}
		}
	}
}

// hasService reports whether a service is there.
func (s *Source) hasService(ctx context.Context, sid string) (bool, error) {
	err := s.get(ctx, client.Path("Services", sid), nil, func(json.RawMessage) error { return nil })
	if client.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// objects returns the objects of a kind in a service.
func (s *Source) objects(ctx context.Context, service, kind string) iter.Seq2[*transfer.Record, error] {
	return s.list(ctx, client.Path("Services", service, collections[kind]), kind)
}

// again reads an object once more.
func (s *Source) again(ctx context.Context, rec *transfer.Record) (now *transfer.Record, err error) {
	err = s.get(ctx, pathOf(rec), nil, func(body json.RawMessage) error {
		records, err := readRecords([]json.RawMessage{body}, rec.Kind)
		if err == nil {
			now = records[0]
		}
		return err
	})
	return now, err
}

// parts visits the items of an object, and then its permissions.
func (s *Source) parts(ctx context.Context, o *transfer.Record, visit func(*transfer.Record) error) error {
	below := map[string]string{}
	switch o.Kind {
	case transfer.Stream:
		return nil
	case transfer.List:
		below["Items"] = transfer.ListItem
	case transfer.Map:
		below["Items"] = transfer.MapItem
	}
	below["Permissions"] = transfer.Permission
	for _, name := range []string{"Items", "Permissions"} {
		kind, has := below[name]
		if !has {
			continue
		}
		for rec, err := range s.list(ctx, pathOf(o, name), kind) {
			if err == nil {
				err = visit(rec)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
