package console

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"lockstep/objects"
	"lockstep/server/realtime"
)

var errNotRelayed = objects.ErrNotFound.With("The console does not lead there")

// relayed are the requests of the operators' API that a page may send. Those that
// hand out the cluster's key or end a node are for the command line.
var relayed = []string{
	"GET /cluster/status", "GET /cluster/verify", "GET /cluster/key", "GET /cluster/keys", "POST /cluster/snapshot",
}

// relay has the REST API or the operators' API serve a request, with the credentials
// of the session in the place of its cookie.
func (c *Console) relay(w http.ResponseWriter, r *http.Request) {
	who, err := c.authenticate(r)
	if err != nil {
		refuse(w, err)
		return
	}
	to := withPath(r, strings.TrimSuffix(apiPrefix, "/"))
	to.Header = r.Header.Clone()
	to.Header.Del("Cookie")
	to.Header.Set("Authorization", who.header)
	w = &answer{ResponseWriter: w}
	if strings.HasPrefix(to.URL.Path, "/v1/") {
		c.Clients.ServeHTTP(w, to)
		return
	}
	if !slices.Contains(relayed, to.Method+" "+to.URL.Path) {
		refuse(w, errNotRelayed)
		return
	}
	c.Operator.ServeHTTP(w, to)
}

// relayRealtime leads a websocket to the realtime endpoint. Whoever connects there
// has an access token; the session counts for nothing.
func (c *Console) relayRealtime(w http.ResponseWriter, r *http.Request) {
	to := withPath(r, "")
	to.Header = r.Header.Clone()
	to.Header.Del("Cookie")
	to.URL.Path, to.URL.RawPath = realtime.Path, ""
	c.Clients.ServeHTTP(w, to)
}

// withPath returns a copy of a request whose path lacks a prefix. The rest of it is
// spelled as it came.
func withPath(r *http.Request, without string) *http.Request {
	to := new(http.Request)
	*to = *r
	to.URL = new(url.URL)
	*to.URL = *r.URL
	to.URL.Path = strings.TrimPrefix(r.URL.Path, without)
	to.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, without)
	return to
}

// answer takes what lets other sites read it out of an answer.
type answer struct {
	http.ResponseWriter
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if !a.begun {
		a.begun = true
		for name := range a.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				a.Header().Del(name)
			}
		}
		a.Header().Set("Cache-Control", "no-store")
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
