package jsonbody_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/jsonbody"
)

func TestReadSaysWhatIsWrong(t *testing.T) {
	var into struct{ Name string }
	read := func(body string) error {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 20)
		return jsonbody.Read(r, &into)
	}
	require.NoError(t, read(`{"name":"x"}`))
	require.Equal(t, "x", into.Name)
	require.ErrorIs(t, read(`{`), objects.ErrParameter)
	require.ErrorIs(t, read(`{"name":"`+strings.Repeat("x", 20)+`"}`), objects.ErrTooLarge)
}

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	jsonbody.Write(w, http.StatusCreated, map[string]int{"n": 1})
	require.Equal(t, http.StatusCreated, w.Code)
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	require.JSONEq(t, `{"n":1}`, w.Body.String())

	w = httptest.NewRecorder()
	jsonbody.Write(w, http.StatusNoContent, nil)
	require.Equal(t, http.StatusNoContent, w.Code)
	require.Empty(t, w.Body.String())
}
