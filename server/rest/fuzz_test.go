package rest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func FuzzRoute(f *testing.F) {
	for _, seed := range []string{
		"/v1/Services", "/v1/Services/default", "/v1/Services/default/Lists/a%2Fb/Items/%25+", "/v1//Services/", "/v1/Services/x/Streams/y/Messages",
		"/v1/Services/x/Maps/%ff", "/v1/Services/x/Maps/%zz", "/v1/Services/x/Maps/a%00", "/v1", "*", "", "/v1/Services/../Maps/./Permissions/x/y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, endpoint, err := route(path)
		if err != nil {
			var e *objects.Error
			require.ErrorAs(t, err, &e)
			require.Contains(t, []int{http.StatusNotFound, http.StatusBadRequest}, e.Status)
			return
		}
		require.NotNil(t, endpoint)
		segments := strings.Split(strings.TrimPrefix(path, "/v1/"), "/")
		for i, want := range []string{1: target.service, 3: target.object, 5: target.key} {
			if i%2 == 0 || i >= len(segments) {
				continue
			}
			decoded, err := url.PathUnescape(segments[i])
			require.NoError(t, err)
			require.Equal(t, want, decoded, "segment %d of %q", i, path)
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, seed := range []string{"Data=%7B%7D&UniqueName=a+b", "&&=&a", "%44ata=1&Data=2", "a=b=c", "%", "a;b=1", "=x&=y"} {
		f.Add(seed, "Data")
	}
	f.Fuzz(func(t *testing.T, raw, name string) {
		p, err := parseParams(raw)
		if err != nil {
			require.ErrorIs(t, err, objects.ErrParameter)
			_, err := url.ParseQuery(raw)
			require.Error(t, err)
			return
		}
		value, ok := p.lookup(name)
		if strings.ContainsRune(raw, ';') {
			return // separates nothing here; the standard library refuses it
		}
		known, err := url.ParseQuery(raw)
		require.NoError(t, err)
		if name == "" {
			return // the standard library drops pairs that are empty altogether
		}
		require.Equal(t, known.Has(name), ok)
		require.Equal(t, known.Get(name), value)
	})
}
