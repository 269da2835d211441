package auth_test

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
)

// Examine finds something exactly where Token refuses, and names the claim.
func TestExamineNamesWhatTokenRefuses(t *testing.T) {
	known := auth.TokenSpec{AccountSID: account, KeySID: keySID, Secret: secret}
	good := func() jwt.MapClaims {
		return jwt.MapClaims{
			"iss": keySID, "sub": account, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"grants": map[string]any{"identity": "alice", "data_sync": map[string]any{"service_sid": "default"}},
		}
	}
	sign := func(c jwt.MapClaims, method jwt.SigningMethod, header map[string]any, key any) string {
		token := jwt.NewWithClaims(method, c)
		for name, value := range header {
			token.Header[name] = value
		}
		text, err := token.SignedString(key)
		require.NoError(t, err)
		return text
	}
	for name, test := range map[string]struct {
		claim  string // the one with a problem; "": none
		change func(jwt.MapClaims)
		text   func(jwt.MapClaims) string
	}{
		"good":                     {"", nil, nil},
		"expired":                  {"exp", func(c jwt.MapClaims) { c["iat"], c["exp"] = now.Unix()-10, now.Unix() }, nil},
		"without an end":           {"exp", func(c jwt.MapClaims) { delete(c, "exp") }, nil},
		"not yet":                  {"nbf", func(c jwt.MapClaims) { c["nbf"] = now.Unix() + 6 }, nil},
		"a little early":           {"", func(c jwt.MapClaims) { c["nbf"] = now.Unix() + 5 }, nil},
		"issued later":             {"iat", func(c jwt.MapClaims) { c["iat"] = now.Unix() + 301 }, nil},
		"lives too long":           {"lifetime", func(c jwt.MapClaims) { c["exp"] = now.Unix() + 86401 }, nil},
		"lives too long, undated":  {"lifetime", func(c jwt.MapClaims) { delete(c, "iat"); c["exp"] = now.Unix() + 86701 }, nil},
		"of another account":       {"sub", func(c jwt.MapClaims) { c["sub"] = "AC1" }, nil},
		"without an identity":      {"grants.identity", func(c jwt.MapClaims) { c["grants"].(map[string]any)["identity"] = "" }, nil},
		"without a grant":          {"grants.data_sync", func(c jwt.MapClaims) { delete(c["grants"].(map[string]any), "data_sync") }, nil},
		"of something that no key": {"iss", func(c jwt.MapClaims) { c["iss"] = account }, nil},
		"signed with something":    {"signature", nil, func(c jwt.MapClaims) string { return sign(c, jwt.SigningMethodHS256, nil, []byte("other")) }},
		"signed in another way":    {"alg", nil, func(c jwt.MapClaims) string { return sign(c, jwt.SigningMethodHS512, nil, []byte(secret)) }},
		"of another kind": {"cty", nil, func(c jwt.MapClaims) string {
			return sign(c, jwt.SigningMethodHS256, map[string]any{"cty": "x"}, []byte(secret))
		}},
		"no token":                  {"form", nil, func(jwt.MapClaims) string { return "a.b" }},
		"with a number for a claim": {"form", func(c jwt.MapClaims) { c["iss"] = 7 }, nil},
	} {
		c := good()
		if test.change != nil {
			test.change(c)
		}
		text := sign(c, jwt.SigningMethodHS256, map[string]any{"cty": "twilio-fpa;v=1"}, []byte(secret))
		if test.text != nil {
			text = test.text(c)
		}
		found := auth.Examine(text, known, now)
		problems := map[string]bool{}
		for _, c := range found {
			if c.Problem != "" {
				problems[c.Name] = true
			}
		}
		_, err := auth.Token(text, keyring{}, now)
		require.Equal(t, err == nil, len(problems) == 0, "%s: %v, %v", name, err, found)
		require.Equal(t, err == nil, auth.Problem(found) == nil, name)
		require.Equal(t, test.claim != "", problems[test.claim], "%s: %v", name, found)
	}
}

func TestExamineSaysWhatItCannotCheck(t *testing.T) {
	text, err := auth.Mint(spec(), now)
	require.NoError(t, err)
	unknown := map[string]bool{}
	for _, c := range auth.Examine(text, auth.TokenSpec{}, now) {
		require.Empty(t, c.Problem, c.Name)
		if c.Unknown != "" {
			unknown[c.Name] = true
		}
	}
	require.Equal(t, map[string]bool{"sub": true, "iss": true, "signature": true}, unknown)
	for _, c := range auth.Examine(text, auth.TokenSpec{AccountSID: account, KeySID: keySID, Secret: secret}, now) {
		require.Empty(t, c.Unknown, c.Name)
	}
}
