package rest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lockstep/fsm/fsmtest"
)

func benchmark(b *testing.B, method, path, body string) {
	c := start(b)
	c.post(home+"/Documents", "UniqueName", "it", "Data", `{"a":1}`)
	c.post(home+"/Maps", "UniqueName", "it")
	c.post(home+"/Maps/it/Items", "Key", "k", "Data", `{"a":1}`)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(method, origin+path, strings.NewReader(body))
		r.Header.Set("Content-Type", form)
		r.SetBasicAuth(fsmtest.AccountSID, fsmtest.AuthToken)
		w := httptest.NewRecorder()
		c.handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}

func BenchmarkFetchDocument(b *testing.B) { benchmark(b, "GET", home+"/Documents/it", "") }

func BenchmarkUpdateItem(b *testing.B) {
	benchmark(b, "POST", home+"/Maps/it/Items/k", encode("Data", `{"id":12345,"text":"`+strings.Repeat("x", 200)+`"}`))
}
