package refusal_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/refusal"
)

func TestWriteSendsErrorAndItsHeaders(t *testing.T) {
	w := httptest.NewRecorder()
	refusal.Write(w, objects.ErrTooMany.With(`Too many "things"`).After(7))
	require.Equal(t, 429, w.Code)
	require.Equal(t, "7", w.Header().Get("Retry-After"))
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	require.JSONEq(t, `{"code":20429,"message":"Too many \"things\"","more_info":"https://www.twilio.com/docs/errors/20429","status":429}`, w.Body.String())

	w = httptest.NewRecorder()
	refusal.Write(w, objects.ErrTimeout)
	require.Equal(t, "close", w.Header().Get("Connection"))
	require.Empty(t, w.Header().Get("Retry-After"))
}
