package api

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func FuzzPageToken(f *testing.F) {
	from := Start{From: "a", Exclusive: true}
	f.Add(PageToken{back: true, size: 50, start: from, tag: tagOf(Collection{Name: "items"}, false, from, "k"), position: "k"}.encode())
	f.Add("no-such-token")
	f.Add("YX00000000\n0") // the decoder skips line breaks
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParsePageToken(text)
		if err != nil {
			require.ErrorIs(t, err, objects.ErrPageToken)
			return
		}
		require.Equal(t, text, token.encode(), "one token has one text")
	})
}
