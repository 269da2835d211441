package admin

import (
	"context"
	"errors"
	"net/http"

	"lockstep/objects"
)

// Waiting gives the handler of a node that does not serve yet: it lives, is not
// ready, and says why. Clients are told to come back.
//
// join is called for POST /cluster/join; it enrols the node, and gives its id.
// Nil: there is nothing to join, because the node is a member and starting.
// allow knows the credentials that the node was given at its start, which are
// not necessarily those of the cluster that it is to join.
func Waiting(reason string, allow Allow, join func(context.Context, Join) (id string, err error)) http.Handler {
	why := errors.New(reason)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", alive)
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { ready(w, why) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, objects.ErrUnavailable.With("This node is not ready: %s", reason))
	})
	if join != nil {
		mux.HandleFunc("POST /cluster/join", func(w http.ResponseWriter, r *http.Request) {
			joining, err := readJoin(w, r, allow, join)
			if err != nil {
				writeError(w, err)
				return
			}
			writeJSON(w, http.StatusAccepted, joining)
		})
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

func readJoin(w http.ResponseWriter, r *http.Request, allow Allow, join func(context.Context, Join) (string, error)) (Joining, error) {
	if err := allow(r.Header.Get("Authorization")); err != nil {
		return Joining{}, err
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var j Join
	if err := readJSON(r, &j); err != nil {
		return Joining{}, err
	}
	id, err := join(r.Context(), j)
	return Joining{ID: id}, err
}
