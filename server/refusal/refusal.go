// Package refusal writes errors of the API's catalogue in the one form that they
// have: as JSON, and as the answer to an HTTP request.
package refusal

import (
	"errors"
	"net/http"
	"strconv"

	"lockstep/objects"
)

// ContentType is that of answers with JSON.
const ContentType = "application/json; charset=utf-8"

// Of returns the error of the catalogue that an error is, ErrInternal for one that
// is none: that is a fault of the server. Of nil it returns nil.
func Of(err error) *objects.Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*objects.Error](err); ok {
		return e
	}
	return objects.ErrInternal
}

// Append appends an error as JSON.
func Append(b []byte, e *objects.Error) []byte {
	b = append(b, `{"code":`...)
	b = strconv.AppendInt(b, int64(e.Code), 10)
	b = append(b, `,"message":`...)
	b = objects.AppendString(b, e.Message)
	b = append(b, `,"more_info":"https://www.twilio.com/docs/errors/`...)
	b = strconv.AppendInt(b, int64(e.Code), 10)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(e.Status), 10)
	return append(b, '}')
}

// SetHeader sets the headers that follow from an error.
func SetHeader(h http.Header, e *objects.Error) {
	if e.Status == http.StatusRequestTimeout {
		h.Set("Connection", "close")
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
}

// Write answers a request with an error.
func Write(w http.ResponseWriter, e *objects.Error) {
	w.Header().Set("Content-Type", ContentType)
	SetHeader(w.Header(), e)
	w.WriteHeader(e.Status)
	// What fails here is the connection; there is nobody left to tell.
	_, _ = w.Write(Append(nil, e))
}
