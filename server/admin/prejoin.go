package admin

import (
	"context"
	"errors"
	"net/http"

	"lockstep/server/jsonbody"
)

// JoinFunc has a waiting node enrol, and returns the node's id.
type JoinFunc func(context.Context, Join) (id string, err error)

// PreJoinHandler returns the handler of a node that does not serve yet: it lives,
// is not ready, and says why. Everything else is answered by clients.
//
// join is called for POST /cluster/join. Nil: there is nothing to join, because
// the node is a member and starting. allow knows the credentials that the node was
// given at its start, which are not necessarily those of the cluster that it is to
// join.
func PreJoinHandler(reason string, clients http.Handler, allow Allow, join JoinFunc) http.Handler {
	why := errors.New(reason)
	joining := identified(sameOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j, err := readJoin(w, r, allow, join)
		if err != nil {
			writeError(w, r, err)
			return
		}
		jsonbody.Write(w, http.StatusAccepted, j)
	})))
	// Not by a ServeMux: it redirects from paths that it finds unclean.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch path := r.URL.Path; {
		case path == "/healthz" && read:
			alive(w, r)
		case path == "/readyz" && read:
			ready(w, why, nil)
		case path == "/cluster/join" && r.Method == http.MethodPost && join != nil:
			joining.ServeHTTP(w, r)
		default:
			clients.ServeHTTP(w, r)
		}
	})
}

func readJoin(w http.ResponseWriter, r *http.Request, allow Allow, join JoinFunc) (Joining, error) {
	if _, err := allow(r, Account); err != nil {
		return Joining{}, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var j Join
	if err := jsonbody.Read(r, &j); err != nil {
		return Joining{}, err
	}
	id, err := join(r.Context(), j)
	return Joining{ID: id}, err
}
