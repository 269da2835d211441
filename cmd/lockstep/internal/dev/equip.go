package dev

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lockstep/server/admin"
)

// equip makes what an application needs, an API key, notes it in dev.env, and
// shows that every node takes writes.
func (c *cluster) equip(ctx context.Context) error {
	if err := c.until(ctx, func() error { return c.makeKey(ctx) }); err != nil {
		return fmt.Errorf("make an API key: %w", err)
	}
	for _, n := range c.nodes {
		err := c.until(ctx, func() error { return c.tryWrite(ctx, n) })
		if err != nil {
			return fmt.Errorf("write through %s: %w", n.name, err)
		}
	}
	return c.env.write(c.dir)
}

// makeKey keeps the key of an earlier start, if it is still good.
func (c *cluster) makeKey(ctx context.Context) error {
	client := c.client(c.nodes...)
	keys, err := client.Keys(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(keys, func(k admin.Key) bool { return k.SID == c.env.APIKey }) {
		return nil
	}
	k, err := client.CreateKey(ctx, admin.NewKey{FriendlyName: "lockstep dev"})
	if err != nil {
		return err
	}
	c.env.APIKey, c.env.APISecret = k.SID, k.Secret
	return c.env.write(c.dir)
}

// tryWrite makes a document through a node and removes it again.
func (c *cluster) tryWrite(ctx context.Context, n *node) error {
	var service, document struct {
		SID string `json:"sid"`
	}
	if err := c.rest(ctx, n, "GET", "/v1/Services/default", nil, &service); err != nil {
		return err
	}
	c.env.ServiceSID = service.SID
	documents := "/v1/Services/" + service.SID + "/Documents"
	if err := c.rest(ctx, n, "POST", documents, url.Values{"Data": {`{"from":"lockstep dev"}`}}, &document); err != nil {
		return err
	}
	return c.rest(ctx, n, "DELETE", documents+"/"+document.SID, nil, nil)
}

// rest does one request of the REST API.
func (c *cluster) rest(ctx context.Context, n *node, method, path string, form url.Values, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, n.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.SetBasicAuth(c.env.AccountSID, c.env.AuthToken)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: status %d: %s", method, path, res.StatusCode, body)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(body, answer)
}
