package realtime

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// Whatever a client sends, what a session holds for has bounds.
func FuzzPresence(f *testing.F) {
	for _, seed := range []string{`{"presence":{"maps":["a"],"ttl":5}}`, `{"presence":{"maps":["a","a"]}}`, `{"presence":1}`, `null`, ``, `{"presence":{"maps":[null],"ttl":-1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, tweaks []byte) {
		p := presenceOf(tweaks)
		if p == nil || p.wrong {
			return
		}
		require.True(t, json.Valid(tweaks))
		require.NotEmpty(t, p.Maps)
		require.LessOrEqual(t, len(p.Maps), maxPresenceMaps)
		for _, name := range p.Maps {
			require.True(t, objects.LooksLikeSID(name) || objects.ValidateName(name) == nil, "%q", name)
		}
		if p.TTL != nil {
			require.GreaterOrEqual(t, *p.TTL, int64(objects.MinGraceSeconds))
			require.LessOrEqual(t, *p.TTL, int64(objects.MaxGraceSeconds))
		}
	})
}
