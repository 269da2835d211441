package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// REST is a client of the REST API of one node.
type REST struct {
	URL, User, Password string
	Timeout             time.Duration // of a request; default 15 s
}

// REST returns the REST API of a node, with the account's credentials.
func (n *Node) REST() *REST {
	return &REST{URL: n.URL, User: n.cluster.Account.SID, Password: n.cluster.Account.AuthToken}
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Decode reads the body as JSON.
func (a Answer) Decode(into any) error { return json.Unmarshal(a.Body, into) }

// Err returns an error for an answer that is not 2xx.
func (a Answer) Err() error {
	if a.Status >= 200 && a.Status < 300 {
		return nil
	}
	return fmt.Errorf("status %d: %s", a.Status, a.Body)
}

// transport is shared: connections of nodes that were killed break and are
// made anew.
var transport = &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 10 * time.Second}

// Do does one request. The path is that below /v1/Services/default, or a whole
// URL. header alternates names and values. An error means that no answer came.
func (c *REST) Do(ctx context.Context, method, path string, form url.Values, header ...string) (Answer, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = 15 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !strings.Contains(path, "://") {
		path = c.URL + "/v1/Services/default" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(form.Encode()))
	if err != nil {
		return Answer{}, err
	}
	req.SetBasicAuth(c.User, c.Password)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}

// Post does a POST and gives an error for everything but success.
func (c *REST) Post(ctx context.Context, path string, form url.Values, header ...string) (Answer, error) {
	return succeed(c.Do(ctx, http.MethodPost, path, form, header...))
}

// Get does a GET and gives an error for everything but success.
func (c *REST) Get(ctx context.Context, path string) (Answer, error) {
	return succeed(c.Do(ctx, http.MethodGet, path, nil))
}

func succeed(a Answer, err error) (Answer, error) {
	if err == nil {
		err = a.Err()
	}
	return a, err
}

// Pages reads a collection from its first page to its last, and gives each
// page's body.
func (c *REST) Pages(ctx context.Context, path string) ([]Answer, error) {
	var pages []Answer
	for path != "" {
		a, err := c.Get(ctx, path)
		if err != nil {
			return nil, err
		}
		pages = append(pages, a)
		var page struct {
			Meta struct {
				Next *string `json:"next_page_url"`
			} `json:"meta"`
		}
		if err := a.Decode(&page); err != nil {
			return nil, err
		}
		path = ""
		if page.Meta.Next != nil {
			path = *page.Meta.Next
		}
	}
	return pages, nil
}
