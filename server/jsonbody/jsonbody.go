// Package jsonbody is the JSON in the bodies of operators' requests and of their
// answers.
package jsonbody

import (
	"encoding/json"
	"errors"
	"net/http"

	"lockstep/objects"
	"lockstep/server/refusal"
)

// Read reads the body of a request. The error is one of the catalogue.
func Read(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return objects.ErrTooLarge
		}
		return objects.ErrParameter.With("The body must be JSON: %v", err)
	}
	return nil
}

// Write answers a request; with StatusNoContent there is no body.
func Write(w http.ResponseWriter, status int, body any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", refusal.ContentType)
	w.WriteHeader(status)
	// What fails here is the connection; there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
