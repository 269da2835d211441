// Package client is the REST API as the command line uses it: it names what it
// asks for, tries another node when one does not answer, waits as long as it is
// told to when there is too much to do, and writes once whatever happens on the way.
//
// It starts no goroutines.
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks the nodes of one cluster. One goroutine uses it.
type Client struct {
	// URLs are origins of nodes. One that does not answer is passed over for the
	// next, which is asked first from then on.
	URLs []string

	// User and Password are the account's, or those of an API key.
	User, Password string

	// Patience is how long a request is tried again while no node answers, or those
	// that do ask to wait. Default: 30 s.
	Patience time.Duration

	// HTTP does the requests. Default: one with a time-out of 30 s.
	HTTP *http.Client
}

// Request is one request.
type Request struct {
	Method string
	Path   string     // below the origin, percent-encoded; see Path
	Query  url.Values // of the URL
	Form   url.Values // the body of a POST

	IfMatch string // a revision, on which a write depends; "": on none
}

// Error is a refusal by a node.
type Error struct {
	Status     int
	Code       int // of the API's error dictionary; 0 where the answer was not the API's
	Message    string
	RequestID  string        // by which the nodes' logs know the request
	RetryAfter time.Duration // 0: not said
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%d: %s", e.Code, e.Message)
	if e.Code == 0 {
		text = fmt.Sprintf("the answer, of status %d, is not the API's: %s", e.Status, e.Message)
	}
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// IsNotFound reports whether an error says that something is not there.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// IsConflict reports whether an error says that something is there already.
func IsConflict(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusConflict
}

// ErrUnreachable is in the error when no node answers.
var ErrUnreachable = errors.New("no node answers")

// Path makes a path below /v1 of its segments.
func Path(segments ...string) string {
	var p strings.Builder
	p.WriteString("/v1")
	for _, s := range segments {
		p.WriteString("/" + url.PathEscape(s))
	}
	return p.String()
}

const (
	defaultPatience = 30 * time.Second

	// pause is between two tries where nobody has said how long to wait.
	pause = 250 * time.Millisecond

	// maxAnswer is more than a page of a hundred of the largest items has.
	maxAnswer = 16 << 20
)

var defaultHTTP = &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// Get reads what is at a path, into a value that JSON is read into.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	return c.Do(ctx, Request{Method: http.MethodGet, Path: path}, into)
}

// Do does one request and reads the answer, if it has a body and into is not nil.
// A write that is tried again has the same Idempotency-Key, so that it happens once.
func (c *Client) Do(ctx context.Context, r Request, into any) error {
	patience := c.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	key := ""
	if r.Method != http.MethodGet {
		key = rand.Text()
	}
	end := time.Now().Add(patience)
	for {
		body, err := c.pass(ctx, r, key)
		if err == nil {
			return decode(body, into)
		}
		wait := again(err)
		if wait == 0 || time.Now().Add(wait).After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(wait):
		}
	}
}

// again returns how long to wait before a request is tried again; 0: there is no
// point in it.
func again(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	if errors.Is(err, ErrUnreachable) && !distrusted {
		return pause
	}
	return 0
}

func decode(body []byte, into any) error {
	if into == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// pass asks one node after the other until one answers.
func (c *Client) pass(ctx context.Context, r Request, key string) ([]byte, error) {
	var unreachable []error
	for range c.URLs {
		body, err := c.ask(ctx, c.URLs[0], r, key)
		if err == nil {
			return body, nil
		}
		if _, answered := errors.AsType[*Error](err); answered {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		unreachable = append(unreachable, err)
		c.URLs = append(c.URLs[1:len(c.URLs):len(c.URLs)], c.URLs[0])
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(unreachable...))
}

// ask asks one node. What is not an *Error says that it did not answer.
func (c *Client) ask(ctx context.Context, origin string, r Request, key string) ([]byte, error) {
	target := strings.TrimRight(origin, "/") + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, strings.NewReader(r.Form.Encode()))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.User, c.Password)
	req.Header.Set("Accept", "application/json")
	if r.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if r.IfMatch != "" {
		req.Header.Set("If-Match", r.IfMatch)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	h := c.HTTP
	if h == nil {
		h = defaultHTTP
	}
	res, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return body, nil
	}
	return nil, refusal(res, body)
}

// refusal makes an error of an answer that is none of success.
func refusal(res *http.Response, body []byte) *Error {
	e := &Error{Status: res.StatusCode, RequestID: res.Header.Get("Twilio-Request-Id")}
	var said struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &said); err == nil {
		e.Code, e.Message = said.Code, said.Message
	}
	if e.Code == 0 {
		e.Message = http.StatusText(res.StatusCode)
	}
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	return e
}

// page is what is read of a page.
type page struct {
	Meta struct {
		Key  string  `json:"key"`
		Next *string `json:"next_page_url"`
	} `json:"meta"`
}

// All reads a collection from its first entry on, page by page, as each is as it
// came. It ends with the first error.
func (c *Client) All(ctx context.Context, path string, query url.Values) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		r := Request{Method: http.MethodGet, Path: path, Query: url.Values{"PageSize": {"100"}}}
		for name, values := range query {
			r.Query[name] = values
		}
		for {
			entries, next, err := c.page(ctx, r)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			// The page is there on every node, whatever host its URL names.
			u, err := url.Parse(next)
			if err != nil {
				yield(nil, fmt.Errorf("read the URL of the next page: %w", err))
				return
			}
			r = Request{Method: http.MethodGet, Path: u.EscapedPath(), Query: u.Query()}
		}
	}
}

func (c *Client) page(ctx context.Context, r Request) (entries []json.RawMessage, next string, err error) {
	var body json.RawMessage
	if err := c.Do(ctx, r, &body); err != nil {
		return nil, "", err
	}
	var p page
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, "", fmt.Errorf("read a page: %w", err)
	}
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, "", fmt.Errorf("read a page: %w", err)
	}
	if err := json.Unmarshal(members[p.Meta.Key], &entries); err != nil {
		return nil, "", fmt.Errorf("read the entries of a page: %w", err)
	}
	if p.Meta.Next != nil {
		next = *p.Meta.Next
	}
	return entries, next, nil
}
