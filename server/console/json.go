package console

import (
	"encoding/json"
	"errors"
	"net/http"

	"lockstep/objects"
	"lockstep/server/refusal"
)

var errNotRelayed = objects.ErrNotFound.With("The console does not lead there")

func readJSON(w http.ResponseWriter, r *http.Request, most int64, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, most)).Decode(into); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return objects.ErrTooLarge
		}
		return objects.ErrParameter.With("The body must be JSON: %v", err)
	}
	return nil
}

// writeJSON answers; nil is no body.
func writeJSON(w http.ResponseWriter, body any) {
	if body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", refusal.ContentType)
	// What fails here is the connection; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
