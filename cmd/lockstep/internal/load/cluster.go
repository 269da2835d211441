package load

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"lockstep/server/admin"
	"lockstep/server/auth"
)

// Cluster is the cluster that the load is put on, with a service and an API key
// that are there for the load only.
type Cluster struct {
	Admin *admin.Client
	URLs  []string    // of the nodes, where the load goes
	Trust *tls.Config // which certificates are believed, as for DialHTTP

	Service string // SID
	key     admin.Key
}

// Open makes the service and the key. Close removes them.
func Open(ctx context.Context, operator *admin.Client, urls []string, trust *tls.Config) (_ *Cluster, err error) {
	c := &Cluster{Admin: operator, URLs: urls, Trust: trust}
	rest := c.REST(0)
	defer func() { err = errors.Join(err, rest.Close()) }()
	answer, err := rest.Do(ctx, "POST", "/v1/Services", url.Values{"FriendlyName": {"lockstep bench"}})
	if err != nil {
		return nil, fmt.Errorf("make a service for the load: %w", err)
	}
	var service struct{ SID string }
	if err := json.Unmarshal(answer.Body, &service); err != nil {
		return nil, fmt.Errorf("make a service for the load: %w", err)
	}
	c.Service = service.SID
	c.key, err = operator.CreateKey(ctx, admin.NewKey{FriendlyName: "lockstep bench", KeyScope: admin.KeyScope{SignOnly: true, Service: c.Service}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make an API key for the load: %w", err), c.Close(ctx))
	}
	return c, nil
}

// Close removes the service, with all that the load made in it, and the key.
func (c *Cluster) Close(ctx context.Context) (err error) {
	if c.key.SID != "" {
		if failed := c.Admin.RevokeKey(ctx, c.key.SID); failed != nil {
			err = fmt.Errorf("revoke the load's API key %s: %w", c.key.SID, failed)
		}
	}
	rest := c.REST(0)
	_, failed := rest.Do(ctx, "DELETE", "/v1/Services/"+c.Service, nil)
	if failed != nil {
		failed = fmt.Errorf("remove the load's service %s: %w", c.Service, failed)
	}
	return errors.Join(err, failed, rest.Close())
}

// Only returns the cluster with the load going to these nodes only.
func (c *Cluster) Only(urls ...string) *Cluster {
	only := *c
	only.URLs = urls
	return &only
}

// Path returns a path of the REST API below the service.
func (c *Cluster) Path(below string) string { return "/v1/Services/" + c.Service + below }

// Token makes an access token.
func (c *Cluster) Token(identity string) (string, error) {
	return auth.Mint(auth.TokenSpec{
		AccountSID: c.Admin.AccountSID, KeySID: c.key.SID, Secret: c.key.Secret, Identity: identity, ServiceSID: c.Service, Lifetime: auth.MaxLifetime,
	}, time.Now())
}

// REST is a client of the REST API over one connection, which is made when it is
// needed. When it breaks, the next request goes to the next node. One goroutine
// uses it.
type REST struct {
	urls  []string
	trust *tls.Config
	at    int
	head  string
	conn  *HTTP
}

// REST returns a client; it begins with the node of its number.
func (c *Cluster) REST(number int) *REST {
	credentials := base64.StdEncoding.EncodeToString([]byte(c.Admin.AccountSID + ":" + c.Admin.AuthToken))
	return &REST{urls: c.URLs, trust: c.Trust, at: number, head: "Authorization: Basic " + credentials + "\r\n"}
}

// Close closes the connection, if there is one.
func (r *REST) Close() error {
	if r.conn == nil {
		return nil
	}
	conn := r.conn
	r.conn = nil
	return conn.Close()
}

// Do makes a request. An answer that is not a success is Refused.
func (r *REST) Do(ctx context.Context, method, path string, form url.Values) (Answer, error) {
	if form == nil {
		return r.send(ctx, method, path, nil)
	}
	return r.send(ctx, method, path, []byte(form.Encode()))
}

const formHead = "Content-Type: application/x-www-form-urlencoded\r\n"

// send makes a request whose body is a form, encoded already, or nil.
func (r *REST) send(ctx context.Context, method, path string, form []byte) (a Answer, err error) {
	if r.conn == nil {
		if r.conn, err = DialHTTP(ctx, r.urls[r.at%len(r.urls)], r.trust); err != nil {
			r.at++
			return Answer{}, err
		}
	}
	head := r.head
	if form != nil {
		head += formHead
	}
	if a, err = r.conn.Do(method, path, head, form); err != nil {
		r.at++
		return Answer{}, errors.Join(err, r.Close())
	}
	return a, a.Err()
}

// Fill makes objects or items, many at a time: request says how the i-th is made.
// A request that is refused by a rate limit is made again when it says.
func (c *Cluster) Fill(ctx context.Context, n int, request func(i int) (path string, form url.Values), made func(i int, sid string)) error {
	const workers = 64
	return Parallel(ctx, workers, workers, func(ctx context.Context, worker int) (err error) {
		rest := c.REST(worker)
		defer func() { err = errors.Join(err, rest.Close()) }()
		for i := worker; i < n; i += workers {
			path, form := request(i)
			sid, err := rest.create(ctx, c.Path(path), form)
			if err != nil {
				return fmt.Errorf("create %s: %w", path, err)
			}
			if made != nil {
				made(i, sid)
			}
		}
		return nil
	})
}

func (r *REST) create(ctx context.Context, path string, form url.Values) (sid string, err error) {
	for {
		a, err := r.Do(ctx, "POST", path, form)
		switch {
		case limited(err):
			sleep(ctx, max(a.RetryAfter, limitedPause))
			if ctx.Err() != nil {
				return "", ctx.Err()
			}
		case err != nil:
			return "", err
		default:
			var o struct{ SID string }
			err := json.Unmarshal(a.Body, &o)
			return o.SID, err
		}
	}
}

// Data is JSON of so many bytes.
func Data(size int) string {
	return `{"v":"` + strings.Repeat("x", max(0, size-len(`{"v":""}`))) + `"}`
}
