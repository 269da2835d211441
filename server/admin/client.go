package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"lockstep/objects"
	"lockstep/server/requestid"
)

// Client asks the operator's API of one of several nodes. It is used by the
// command line and by nodes that join.
type Client struct {
	// URLs are origins of nodes. A node that cannot be reached is passed over
	// for the next; one that answers, whatever it answers, is not.
	URLs       []string
	AccountSID string
	AuthToken  string

	// HTTP does the requests. Default: one with a time-out of a minute.
	HTTP *http.Client
}

// ErrUnreachable is wrapped when none of the nodes could be reached.
var ErrUnreachable = errors.New("no node answers")

var defaultHTTP = newHTTP(nil)

// Status returns the members of the cluster.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.do(ctx, "GET", "/cluster/status", nil, &s)
}

// Verify has the states of all nodes compared.
func (c *Client) Verify(ctx context.Context) (v Verification, err error) {
	return v, c.do(ctx, "GET", "/cluster/verify", nil, &v)
}

// Enrol asks for what a node needs to become a peer.
func (c *Client) Enrol(ctx context.Context, r Enrol) (e Enrolment, err error) {
	return e, c.do(ctx, "POST", "/cluster/enrol", r, &e)
}

// AddMember adds a node to the cluster. It becomes a voter when it has caught
// up. Adding a member again has no effect.
func (c *Client) AddMember(ctx context.Context, m Member) error {
	return c.do(ctx, "POST", "/cluster/members", m, nil)
}

// RemoveMember takes a node out of the cluster.
func (c *Client) RemoveMember(ctx context.Context, id string) error {
	return c.do(ctx, "DELETE", "/cluster/members/"+url.PathEscape(id), nil, nil)
}

// Leave makes the node leave its cluster and stop.
func (c *Client) Leave(ctx context.Context) error {
	return c.do(ctx, "POST", "/cluster/leave", nil, nil)
}

// Snapshot makes the node write a snapshot.
func (c *Client) Snapshot(ctx context.Context) error {
	return c.do(ctx, "POST", "/cluster/snapshot", nil, nil)
}

// Join makes a waiting node join a cluster, and returns its id.
func (c *Client) Join(ctx context.Context, j Join) (id string, err error) {
	var joining Joining
	err = c.do(ctx, "POST", "/cluster/join", j, &joining)
	return joining.ID, err
}

// CreateKey makes an API key.
func (c *Client) CreateKey(ctx context.Context, n NewKey) (k Key, err error) {
	return k, c.do(ctx, "POST", "/cluster/keys", n, &k)
}

// Keys returns all API keys.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	var l KeyList
	err := c.do(ctx, "GET", "/cluster/keys", nil, &l)
	return l.Keys, err
}

// RevokeKey revokes an API key.
func (c *Client) RevokeKey(ctx context.Context, sid string) error {
	return c.do(ctx, "DELETE", "/cluster/keys/"+url.PathEscape(sid), nil, nil)
}

// RotateKey begins to change the cluster's key.
func (c *Client) RotateKey(ctx context.Context) error {
	return c.do(ctx, "POST", "/cluster/key", nil, nil)
}

// KeyRotation returns how far a change of the cluster's key has come.
func (c *Client) KeyRotation(ctx context.Context) (k KeyRotation, err error) {
	return k, c.do(ctx, "GET", "/cluster/key", nil, &k)
}

// AddAuthToken gives the account a second auth token, and returns it.
func (c *Client) AddAuthToken(ctx context.Context) (string, error) {
	var t AuthToken
	err := c.do(ctx, "POST", "/cluster/account/token", nil, &t)
	return t.AuthToken, err
}

// PromoteAuthToken makes the second auth token the only one.
func (c *Client) PromoteAuthToken(ctx context.Context) error {
	return c.do(ctx, "POST", "/cluster/account/promote", nil, nil)
}

// DropAuthToken takes the second auth token away.
func (c *Client) DropAuthToken(ctx context.Context) error {
	return c.do(ctx, "DELETE", "/cluster/account/token", nil, nil)
}

// Ready returns nil if the first of the nodes serves clients, and why not
// otherwise.
func (c *Client) Ready(ctx context.Context) error {
	var answer struct {
		Reason string `json:"reason"`
	}
	status, _, body, err := c.send(ctx, c.URLs[0], "GET", "/readyz", nil)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case status == http.StatusOK:
		return nil
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("status %d", status)
	}
	return errors.New(answer.Reason)
}

// do sends a request to the first node that can be reached. An *objects.Error is in the
// error if the node refused.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	return c.exchange(ctx, method, path, payload, answer)
}

// exchange is do with a body that is encoded already.
func (c *Client) exchange(ctx context.Context, method, path string, payload []byte, answer any) error {
	content, err := c.ask(ctx, method, path, payload)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// ask is exchange with an answer that is not decoded.
func (c *Client) ask(ctx context.Context, method, path string, payload []byte) (answer []byte, err error) {
	var unreachable []error
	for _, u := range c.URLs {
		status, header, content, err := c.send(ctx, u, method, path, payload)
		if err != nil {
			unreachable = append(unreachable, err)
			continue
		}
		return content, refusalOf(status, header, content)
	}
	return nil, fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(unreachable...))
}

func (c *Client) send(ctx context.Context, origin, method, path string, body []byte) (status int, header http.Header, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(origin, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.SetBasicAuth(c.AccountSID, c.AuthToken)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	h := c.HTTP
	if h == nil {
		h = defaultHTTP
	}
	res, err := h.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, res.Header, answer, err
}

// maxAnswer is more than a cluster's status or its API keys take.
const maxAnswer = 16 << 20

// refusalOf returns the error that an answer is, with the id by which the node's log has
// the request; nil if it is none.
func refusalOf(status int, header http.Header, body []byte) error {
	if status < 300 {
		return nil
	}
	var f struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(body, &f); err != nil || f.Code == 0 {
		return fmt.Errorf("the node answered with status %d", status)
	}
	if id := header.Get(requestid.Header); id != "" {
		return fmt.Errorf("%w (request %s)", &objects.Error{Code: f.Code, Status: status, Message: f.Message}, id)
	}
	return &objects.Error{Code: f.Code, Status: status, Message: f.Message}
}
