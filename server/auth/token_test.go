package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/auth"
)

// goodClaims is the payload of a valid token.
func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{
		"jti": keySID + "-1", "iss": keySID, "sub": account,
		"iat": now.Unix() - 60, "exp": now.Unix() + 60,
		"grants": map[string]any{"identity": "alice", "data_sync": map[string]any{"service_sid": service}},
	}
}

// with returns the good claims with some of them replaced; nil leaves one out.
func with(changes map[string]any) jwt.MapClaims {
	c := goodClaims()
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func withGrants(g any) jwt.MapClaims { return with(map[string]any{"grants": g}) }

func sign(t *testing.T, method jwt.SigningMethod, header map[string]any, c jwt.MapClaims, key any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	require.NoError(t, err)
	return text
}

func hs256(t *testing.T, c jwt.MapClaims) string {
	t.Helper()
	return sign(t, jwt.SigningMethodHS256, nil, c, []byte(secret))
}

func TestToken(t *testing.T) {
	got, err := auth.Token(hs256(t, goodClaims()), keyring{}, now)
	require.NoError(t, err)
	require.Equal(t, auth.Principal{
		AccountSID: account, KeySID: keySID, Token: true, Identity: "alice", ServiceSID: service,
		Expires: now.Add(time.Minute),
	}, got)
}

func TestTokenAccepts(t *testing.T) {
	day := int64(86_400)
	for name, c := range map[string]jwt.MapClaims{
		"the default service":    withGrants(map[string]any{"identity": "a", "data_sync": map[string]any{"service_sid": "default"}}),
		"other grants":           withGrants(map[string]any{"identity": "a", "chat": map[string]any{}, "data_sync": map[string]any{"service_sid": service}}),
		"a long identity":        withGrants(map[string]any{"identity": strings.Repeat("é", 256), "data_sync": map[string]any{"service_sid": service}}),
		"a whole day":            with(map[string]any{"iat": now.Unix(), "exp": now.Unix() + day}),
		"no iat":                 with(map[string]any{"iat": nil, "exp": now.Unix() + day}),
		"no jti":                 with(map[string]any{"jti": nil}),
		"nbf now":                with(map[string]any{"nbf": now.Unix()}),
		"a day, clock ahead":     with(map[string]any{"iat": nil, "exp": now.Unix() + day + 2}),
		"nbf of a clock ahead":   with(map[string]any{"nbf": now.Unix() + 5}),
		"exp in a second":        with(map[string]any{"exp": now.Unix() + 1}),
		"a clock that is ahead":  with(map[string]any{"iat": now.Unix() + 300, "exp": now.Unix() + 300 + day}),
		"fractions of a second":  with(map[string]any{"iat": float64(now.Unix()) - 0.5, "exp": float64(now.Unix()) + 9.5}),
		"claims of other issues": with(map[string]any{"aud": "x", "custom": 1}),
	} {
		_, err := auth.Token(hs256(t, c), keyring{}, now)
		require.NoError(t, err, name)
	}
	for name, header := range map[string]map[string]any{
		"with cty":    {"cty": "twilio-fpa;v=1"},
		"with region": {"cty": "twilio-fpa;v=1", "twr": "us1"},
	} {
		_, err := auth.Token(sign(t, jwt.SigningMethodHS256, header, goodClaims(), []byte(secret)), keyring{}, now)
		require.NoError(t, err, name)
	}
}

func TestTokenRefusesClaims(t *testing.T) {
	day := int64(86_400)
	sync := map[string]any{"service_sid": service}
	for name, c := range map[string]struct {
		claims jwt.MapClaims
		want   *objects.Error
	}{
		"another account":         {with(map[string]any{"sub": "AC" + strings.Repeat("0", 32)}), objects.ErrTokenInvalid},
		"no account":              {with(map[string]any{"sub": nil}), objects.ErrTokenInvalid},
		"an unknown key":          {with(map[string]any{"iss": "SK" + strings.Repeat("0", 32)}), objects.ErrTokenInvalid},
		"no key":                  {with(map[string]any{"iss": nil}), objects.ErrTokenInvalid},
		"the account as key":      {with(map[string]any{"iss": account}), objects.ErrTokenInvalid},
		"no exp":                  {with(map[string]any{"exp": nil}), objects.ErrTokenInvalid},
		"exp as text":             {with(map[string]any{"exp": "tomorrow"}), objects.ErrTokenInvalid},
		"more than a day":         {with(map[string]any{"iat": now.Unix() - 10, "exp": now.Unix() + day - 9}), objects.ErrTokenInvalid},
		"more than a day, no iat": {with(map[string]any{"iat": nil, "exp": now.Unix() + day + 301}), objects.ErrTokenInvalid},
		"expired":                 {with(map[string]any{"exp": now.Unix() - 1}), objects.ErrTokenExpired},
		"expires now":             {with(map[string]any{"exp": now.Unix()}), objects.ErrTokenExpired},
		"expired, born expired":   {with(map[string]any{"iat": now.Unix(), "exp": now.Unix() - 10}), objects.ErrTokenExpired},
		"expired for another":     {with(map[string]any{"sub": "AC", "exp": now.Unix() - 1}), objects.ErrTokenInvalid},
		"not yet valid":           {with(map[string]any{"nbf": now.Unix() + 6}), objects.ErrTokenNotYetValid},
		"expired and not yet":     {with(map[string]any{"nbf": now.Unix() + 6, "exp": now.Unix() - 1}), objects.ErrTokenExpired},
		"issued tomorrow":         {with(map[string]any{"iat": now.Unix() + day, "exp": now.Unix() + day + 60}), objects.ErrTokenNotYetValid},
		"no grants":               {withGrants(nil), objects.ErrTokenInvalid},
		"grants of another type":  {withGrants("all"), objects.ErrTokenInvalid},
		"no identity":             {withGrants(map[string]any{"data_sync": sync}), objects.ErrTokenInvalid},
		"an empty identity":       {withGrants(map[string]any{"identity": "", "data_sync": sync}), objects.ErrTokenInvalid},
		"a number as identity":    {withGrants(map[string]any{"identity": 7, "data_sync": sync}), objects.ErrTokenInvalid},
		"too long an identity":    {withGrants(map[string]any{"identity": strings.Repeat("x", 257), "data_sync": sync}), objects.ErrTokenInvalid},
		"no Sync grant":           {withGrants(map[string]any{"identity": "alice"}), objects.ErrTokenInvalid},
		"another product's grant": {withGrants(map[string]any{"identity": "alice", "chat": sync}), objects.ErrTokenInvalid},
		"no service":              {withGrants(map[string]any{"identity": "alice", "data_sync": map[string]any{}}), objects.ErrTokenInvalid},
		"an empty service":        {withGrants(map[string]any{"identity": "alice", "data_sync": map[string]any{"service_sid": ""}}), objects.ErrTokenInvalid},
	} {
		got, err := auth.Token(hs256(t, c.claims), keyring{}, now)
		require.ErrorIs(t, err, c.want, name)
		require.Zero(t, got, name)
	}
	for _, huge := range []float64{1e18, 1e19, 1e300, -1e300} {
		for _, claim := range []string{"exp", "iat"} {
			_, err := auth.Token(hs256(t, with(map[string]any{claim: huge})), keyring{}, now)
			require.Error(t, err, "%s %g", claim, huge)
		}
	}
}

func TestTokenRefusesSignatures(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	good := hs256(t, goodClaims())
	parts := strings.Split(good, ".")
	rest := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	otherIdentity := rest(strings.ReplaceAll(decode(t, parts[1]), "alice", "mallory"))

	for name, text := range map[string]string{
		"empty":                 "",
		"no JWT":                "token",
		"dots":                  "..",
		"four parts":            good + ".x",
		"no signature":          parts[0] + "." + parts[1] + ".",
		"another payload":       parts[0] + "." + otherIdentity + "." + parts[2],
		"wrong key":             sign(t, jwt.SigningMethodHS256, nil, goodClaims(), []byte("wrong")),
		"wrong key and expired": sign(t, jwt.SigningMethodHS256, nil, with(map[string]any{"exp": 1}), []byte("wrong")),
		"the auth token as key": sign(t, jwt.SigningMethodHS256, nil, goodClaims(), []byte(authToken)),
		"a key without secret":  sign(t, jwt.SigningMethodHS256, nil, with(map[string]any{"iss": "SKempty"}), []byte{}),
		"alg none":              sign(t, jwt.SigningMethodNone, nil, goodClaims(), jwt.UnsafeAllowNoneSignatureType),
		"alg None":              rest(`{"alg":"None","typ":"JWT"}`) + "." + parts[1] + ".",
		"no alg":                rest(`{"typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"alg is no text":        rest(`{"alg":["HS256"]}`) + "." + parts[1] + "." + parts[2],
		"HS384":                 sign(t, jwt.SigningMethodHS384, nil, goodClaims(), []byte(secret)),
		"HS512":                 sign(t, jwt.SigningMethodHS512, nil, goodClaims(), []byte(secret)),
		"RS256":                 sign(t, jwt.SigningMethodRS256, nil, goodClaims(), rsaKey),
		"RS256 renamed":         rest(`{"alg":"RS256","typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"another cty":           sign(t, jwt.SigningMethodHS256, map[string]any{"cty": "twilio-sat;v=1"}, goodClaims(), []byte(secret)),
		"cty is no text":        sign(t, jwt.SigningMethodHS256, map[string]any{"cty": []int{1}}, goodClaims(), []byte(secret)),
		"payload null":          parts[0] + "." + rest("null") + "." + parts[2],
		"payload no object":     parts[0] + "." + rest("[]") + "." + parts[2],
		"header null":           rest("null") + "." + parts[1] + "." + parts[2],
	} {
		got, err := auth.Token(text, keyring{}, now)
		require.ErrorIs(t, err, objects.ErrTokenInvalid, name)
		require.Zero(t, got, name)
	}
	_, err = auth.Token(good, keyring{revoked: true}, now)
	require.ErrorIs(t, err, objects.ErrTokenInvalid, "revoked key")
}

// TestTokenErrorsAreForClientsToo: what a client is told is the catalogue's
// message, without the reason.
func TestTokenErrorsAreForClientsToo(t *testing.T) {
	_, err := auth.Token(hs256(t, with(map[string]any{"sub": "AC"})), keyring{}, now)
	var told *objects.Error
	require.ErrorAs(t, err, &told)
	require.Equal(t, objects.ErrTokenInvalid, told)
	require.ErrorContains(t, err, "another account")
}

func FuzzToken(f *testing.F) {
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJIUzI1NiJ9.e30.x")
	f.Add("bnVsbA.bnVsbA.bnVsbA")
	f.Fuzz(func(t *testing.T, text string) {
		_, err := auth.Token(text, keyring{}, now)
		require.ErrorIs(t, err, objects.ErrTokenInvalid)
	})
}

func decode(t *testing.T, part string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	require.NoError(t, err)
	return string(b)
}

func BenchmarkToken(b *testing.B) {
	text, err := auth.Mint(spec(), now)
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.Token(text, keyring{}, now); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTokenByScope(t *testing.T) {
	text, err := auth.Mint(spec(), now)
	require.NoError(t, err)
	_, err = auth.Token(text, keyring{scope: objects.KeyScope{ReadOnly: true}}, now)
	require.ErrorIs(t, err, objects.ErrTokenInvalid, "a key that only reads signs no tokens")
	scope := objects.KeyScope{SignOnly: true, Service: objects.NewSID(objects.KindService, [16]byte{1})}
	p, err := auth.Token(text, keyring{scope: scope}, now)
	require.NoError(t, err)
	require.Equal(t, scope, p.Scope)
}
