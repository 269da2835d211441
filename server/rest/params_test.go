package rest

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParamsAreReadAsPackageURLDoes(t *testing.T) {
	for _, raw := range []string{"", "a=b", "a=b&c", "a=%20+x&b=", "=x&a", "a=1&a=2", "&&a=%26", "%61=z"} {
		want, err := url.ParseQuery(raw)
		require.NoError(t, err)
		p, err := parseParams(raw)
		require.NoError(t, err)
		for _, name := range []string{"a", "b", "c", "missing"} {
			require.Equal(t, want.Get(name), p.get(name), "%s of %q", name, raw)
			_, there := p.lookup(name)
			require.Equal(t, want.Has(name), there, "%s of %q", name, raw)
		}
	}
	p, err := parseParams("Data={\"a;b\":1}")
	require.NoError(t, err, "package url refuses semicolons, which curl -d sends as they are")
	require.Equal(t, `{"a;b":1}`, p.get("Data"))
}

const form = "Key=alice&Data=%7B%22points%22%3A3%7D&ItemTtl=3600"

// The two ways to read a form as a write does.
func BenchmarkParams(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, _ := parseParams(form)
			for _, name := range []string{"Key", "Data", "ItemTtl", "Ttl"} {
				p.get(name)
			}
		}
	})
	b.Run("net/url", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			p, _ := url.ParseQuery(form)
			for _, name := range []string{"Key", "Data", "ItemTtl", "Ttl"} {
				p.Get(name)
			}
		}
	})
}
