package objects_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
)

func TestSIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var random [16]byte
		copy(random[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "random"))
		kind := objects.Kind(rapid.IntRange(1, 8).Draw(t, "kind"))
		sid := objects.NewSID(kind, random)
		require.Regexp(t, `^[A-Z]{2}[0-9a-f]{32}$`, sid.String())
		require.True(t, strings.HasPrefix(sid.String(), kind.Prefix()))
		back, ok := objects.ParseSID(sid.String())
		require.True(t, ok)
		require.Equal(t, sid, back)
	})
}

func TestParseSIDRefuses(t *testing.T) {
	hex := "0123456789abcdef0123456789abcdef"
	for _, text := range []string{"", "ET", "ET" + hex[1:], "ET" + hex + "0", "XX" + hex, "et" + hex, "ET" + strings.ToUpper(hex), "ET" + hex[:31] + "g"} {
		_, ok := objects.ParseSID(text)
		require.False(t, ok, text)
	}
	require.True(t, objects.LooksLikeSID("XX"+hex), "addressed as a SID, of no known kind")
}

func TestValidateNames(t *testing.T) {
	for _, good := range []string{"a", "with blank", "sl/ash", "😀", strings.Repeat("ü", 320)} {
		require.NoError(t, objects.ValidateName(good))
		require.NoError(t, objects.ValidateKey(good))
	}
	for _, bad := range []string{"", strings.Repeat("x", 321), "a\x00b", "\xff"} {
		require.ErrorIs(t, objects.ValidateName(bad), objects.ErrName)
		require.ErrorIs(t, objects.ValidateKey(bad), objects.ErrMapItemKey)
		require.ErrorIs(t, objects.ValidateIdentity(bad), objects.ErrIdentity)
		require.ErrorIs(t, objects.ValidateFriendlyName(bad), objects.ErrFriendlyName)
	}
	require.ErrorIs(t, objects.ValidateName("ET0123456789abcdef0123456789abcdef"), objects.ErrName)
	require.NoError(t, objects.ValidateKey("ET0123456789abcdef0123456789abcdef"))
	require.ErrorIs(t, objects.ValidateIdentity(strings.Repeat("x", 257)), objects.ErrIdentity)
}

func TestValidateWebhookURL(t *testing.T) {
	for _, good := range []string{"", "http://127.0.0.1:1/hook?a=b%20c", "https://example.com/", "http://user:pass@example.com/O'Brien/a|b?q={\"j\":1}&l[]=%2f#x"} {
		require.NoError(t, objects.ValidateWebhookURL(good))
	}
	for _, bad := range []string{"not a url", "ftp://example.com/x", "http://", "//x/y", "http://example.com/" + strings.Repeat("a", 512),
		"http://example.com/a b", "http://example.com/?a b", "http://example.com/?a=ö", "http://example.com/ü", "http://exämple.com/",
		"http://example.com/?a\x7f", "http://example.com/?a\tb", " http://example.com/", "http://example.com/?\xff", "http://example.com/#ö",
	} {
		require.ErrorIs(t, objects.ValidateWebhookURL(bad), objects.ErrWebhookURL, bad)
	}
}

func TestCompareKeysIsUTF16Order(t *testing.T) {
	interesting := rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune("abé\uD7FF\uE000\uFFFD\uFFFF\U00010000😀\U0010FFFF")), rapid.Rune()))
	rapid.Check(t, func(t *rapid.T) {
		a, b := interesting.Draw(t, "a"), interesting.Draw(t, "b")
		want := slices.Compare(utf16.Encode([]rune(a)), utf16.Encode([]rune(b)))
		require.Equal(t, want, cmp.Compare(objects.CompareKeys(a, b), 0), "%q %q", a, b)
	})
}

func TestParseIfMatch(t *testing.T) {
	revision := func(r objects.Revision) objects.Precondition {
		return objects.Precondition{Kind: objects.MatchRevision, Revision: r}
	}
	for header, want := range map[string]objects.Precondition{
		"": {}, "*": {Kind: objects.MatchAny}, "0": revision(0), "ff": revision(255), `"a"`: revision(10), ` W/"1f" `: revision(31),
	} {
		got, err := objects.ParseIfMatch(header)
		require.NoError(t, err, header)
		require.Equal(t, want, got, header)
	}
	for _, bad := range []string{"x", "-1", "+1", `""`, `"`, "no-such-revision", "01", "FF", strings.Repeat("a", 3000), "1 2"} {
		_, err := objects.ParseIfMatch(bad)
		require.ErrorIs(t, err, objects.ErrRevision, bad)
	}
	require.True(t, objects.Precondition{}.Holds(7))
	require.False(t, revision(6).Holds(7))
	require.False(t, objects.Precondition{Kind: objects.MatchAbsent}.Holds(7))
}

func TestErrorsAreTheirCodeAndStatus(t *testing.T) {
	require.ErrorIs(t, objects.ErrRate.With("Rate limit exceeded for write-map-MP1").After(3), objects.ErrRate)
	require.NotErrorIs(t, objects.ErrData, objects.ErrHistory, "one code, two statuses")
}
