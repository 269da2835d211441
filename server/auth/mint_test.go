package auth_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/auth"
)

func spec() auth.TokenSpec {
	return auth.TokenSpec{AccountSID: account, KeySID: keySID, Secret: secret, Identity: "alice", ServiceSID: service}
}

// official is what the helper library for Node, twilio 6.2.0, made of the
// values beside it. The secrets in it are nobody's.
type official struct {
	AccountSID          string `json:"account_sid"`
	KeySID              string `json:"key_sid"`
	Secret              string `json:"secret"`
	Identity            string `json:"identity"`
	ServiceSID          string `json:"service_sid"`
	EndpointID          string `json:"endpoint_id"`
	TTLSeconds          int64  `json:"ttl_seconds"`
	Now                 int64  `json:"now"`
	Token               string `json:"token"`
	TokenWithEverything string `json:"token_with_everything"` // nbf, region, endpoint
}

func readOfficial(t *testing.T) (o official) {
	t.Helper()
	b, err := os.ReadFile("testdata/twilio-node-6.2.0.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &o))
	return o
}

func TestTokenAcceptsTheOfficialHelpers(t *testing.T) {
	o := readOfficial(t)
	at := time.Unix(o.Now, 0)
	want := auth.Principal{
		AccountSID: o.AccountSID, KeySID: o.KeySID, Token: true, Identity: o.Identity, ServiceSID: o.ServiceSID,
		Expires: at.Add(time.Duration(o.TTLSeconds) * time.Second),
	}
	got, err := auth.Token(o.Token, keyring{}, at)
	require.NoError(t, err)
	require.Equal(t, want, got)

	want.EndpointID = o.EndpointID
	got, err = auth.Token(o.TokenWithEverything, keyring{}, at)
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = auth.Token(o.TokenWithEverything, keyring{}, at.Add(-6*time.Second))
	require.ErrorIs(t, err, objects.ErrTokenNotYetValid)
}

func TestMintIsAsTheOfficialHelpers(t *testing.T) {
	o := readOfficial(t)
	got, err := auth.Mint(auth.TokenSpec{
		AccountSID: o.AccountSID, KeySID: o.KeySID, Secret: o.Secret, Identity: o.Identity, ServiceSID: o.ServiceSID,
		Lifetime: time.Duration(o.TTLSeconds) * time.Second,
	}, time.Unix(o.Now, 999_999_999))
	require.NoError(t, err)
	// The order of members is each library's own.
	gotParts, wantParts := strings.Split(got, "."), strings.Split(o.Token, ".")
	for i := range 2 {
		require.JSONEq(t, decode(t, wantParts[i]), decode(t, gotParts[i]))
	}
}

func TestMintThenToken(t *testing.T) {
	s := spec()
	s.EndpointID, s.Identity = "phone", "<a&b> é 🙂"
	text, err := auth.Mint(s, now)
	require.NoError(t, err)
	got, err := auth.Token(text, keyring{}, now)
	require.NoError(t, err)
	require.Equal(t, auth.Principal{
		AccountSID: account, KeySID: keySID, Token: true, Identity: s.Identity, EndpointID: "phone", ServiceSID: service,
		Expires: now.Add(time.Hour),
	}, got, "an hour is the default")

	s.Lifetime = auth.MaxLifetime
	text, err = auth.Mint(s, now)
	require.NoError(t, err)
	_, err = auth.Token(text, keyring{}, now)
	require.NoError(t, err)
}

func TestMintRefuses(t *testing.T) {
	for name, change := range map[string]func(*auth.TokenSpec){
		"no account":           func(s *auth.TokenSpec) { s.AccountSID = "" },
		"no key":               func(s *auth.TokenSpec) { s.KeySID = "" },
		"no secret":            func(s *auth.TokenSpec) { s.Secret = "" },
		"no service":           func(s *auth.TokenSpec) { s.ServiceSID = "" },
		"no identity":          func(s *auth.TokenSpec) { s.Identity = "" },
		"too long an identity": func(s *auth.TokenSpec) { s.Identity = strings.Repeat("x", 257) },
		"a negative lifetime":  func(s *auth.TokenSpec) { s.Lifetime = -time.Second },
		"part of a second":     func(s *auth.TokenSpec) { s.Lifetime = 1500 * time.Millisecond },
		"more than a day":      func(s *auth.TokenSpec) { s.Lifetime = auth.MaxLifetime + time.Second },
	} {
		s := spec()
		change(&s)
		_, err := auth.Mint(s, now)
		require.ErrorContains(t, err, "mint access token: ", name)
	}
}
