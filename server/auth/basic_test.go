package auth_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/auth"
)

func encode(credentials string) string {
	return base64.StdEncoding.EncodeToString([]byte(credentials))
}

func TestBasic(t *testing.T) {
	byToken := auth.Principal{AccountSID: account}
	byKey := auth.Principal{AccountSID: account, KeySID: keySID}
	for _, c := range []struct {
		name, header string
		want         auth.Principal
	}{
		{"auth token", "Basic " + encode(account+":"+authToken), byToken},
		{"second auth token", "Basic " + encode(account+":"+secondToken), byToken},
		{"API key", "Basic " + encode(keySID+":"+secret), byKey},
		{"scheme in lower case", "basic " + encode(keySID+":"+secret), byKey},
		{"scheme in upper case", "BASIC " + encode(keySID+":"+secret), byKey},
		{"blanks around", "  Basic   " + encode(keySID+":"+secret) + " ", byKey},
	} {
		got, err := auth.Basic(c.header, keyring{})
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, got, c.name)
	}
}

func TestBasicRefuses(t *testing.T) {
	for name, header := range map[string]string{
		"nothing":                       "",
		"scheme only":                   "Basic",
		"no credentials":                "Basic ",
		"another scheme":                "Bearer " + encode(account+":"+authToken),
		"no scheme":                     encode(account + ":" + authToken),
		"no base64":                     "Basic %%%",
		"padding missing":               "Basic " + "YTpiYw",
		"no colon":                      "Basic " + encode(account),
		"only a colon":                  "Basic " + encode(":"),
		"unknown user":                  "Basic " + encode("SKunknown:"+secret),
		"unknown user, empty password":  "Basic " + encode("SKunknown:"),
		"wrong password":                "Basic " + encode(account+":wrong"),
		"empty password":                "Basic " + encode(account+":"),
		"prefix of the password":        "Basic " + encode(account+":"+authToken[:31]),
		"account SID with a key secret": "Basic " + encode(account+":"+secret),
		"key SID with the auth token":   "Basic " + encode(keySID+":"+authToken),
		"account SID in another case":   "Basic " + encode("ac"+account[2:]+":"+authToken),
		"a key without a secret":        "Basic " + encode("SKempty:"),
	} {
		got, err := auth.Basic(header, keyring{})
		require.ErrorIs(t, err, objects.ErrUnauthorized, name)
		require.Zero(t, got, name)
	}
	_, err := auth.Basic("Basic "+encode(keySID+":"+secret), keyring{revoked: true})
	require.ErrorIs(t, err, objects.ErrUnauthorized, "revoked key")
}

func TestBasicByScope(t *testing.T) {
	header := "Basic " + encode(keySID+":"+secret)
	_, err := auth.Basic(header, keyring{scope: objects.KeyScope{SignOnly: true}})
	require.ErrorIs(t, err, objects.ErrUnauthorized, "a key that only signs opens nothing")
	viewer := keyring{scope: objects.KeyScope{Role: objects.RoleViewer}}
	_, err = auth.Basic(header, viewer)
	require.ErrorIs(t, err, objects.ErrUnauthorized, "an operator's key opens no data")
	p, err := auth.Operator(header, viewer)
	require.NoError(t, err)
	require.Equal(t, objects.RoleViewer, p.Scope.Role)
	_, err = auth.Operator("Basic "+encode(keySID+":wrong"), viewer)
	require.ErrorIs(t, err, objects.ErrUnauthorized)
	scope := objects.KeyScope{ReadOnly: true, Service: objects.NewSID(objects.KindService, [16]byte{1})}
	p, err = auth.Basic(header, keyring{scope: scope})
	require.NoError(t, err)
	require.Equal(t, scope, p.Scope)
}

// noAccount is an installation that has not been set up.
type noAccount struct{ keyring }

func (noAccount) Account() (sid string, tokens []string) { return "", []string{""} }

func TestBasicRefusesEmptyCredentialsOfEmptyState(t *testing.T) {
	_, err := auth.Basic("Basic "+encode(":"), noAccount{})
	require.ErrorIs(t, err, objects.ErrUnauthorized)
}

// changing is a keyring whose secrets change.
type changing struct {
	keyring
	token, secret string
}

func (c *changing) Account() (sid string, tokens []string) { return account, []string{c.token} }

func (c *changing) Key(sid string) (auth.Key, bool) {
	return auth.Key{Secret: c.secret, Scope: c.scope}, sid == keySID && !c.revoked
}

func TestRememberedCredentialsAreCheckedAgain(t *testing.T) {
	k := &changing{token: authToken, secret: secret}
	b := auth.NewBasics(k)
	byToken, byKey := "Basic "+encode(account+":"+authToken), "Basic "+encode(keySID+":"+secret)
	for range 3 {
		p, err := b.Check(byToken)
		require.NoError(t, err)
		require.Equal(t, auth.Principal{AccountSID: account}, p)
		p, err = b.Check(byKey)
		require.NoError(t, err)
		require.Equal(t, auth.Principal{AccountSID: account, KeySID: keySID}, p)
		_, err = b.Check("Basic " + encode(account+":wrong"))
		require.ErrorIs(t, err, objects.ErrUnauthorized)
	}
	k.scope = objects.KeyScope{ReadOnly: true}
	p, err := b.Check(byKey)
	require.NoError(t, err)
	require.Equal(t, k.scope, p.Scope, "that of now")

	refused := func(header, why string) {
		_, err := b.Check(header)
		require.ErrorIs(t, err, objects.ErrUnauthorized, why)
	}
	k.scope.SignOnly = true
	refused(byKey, "a key that only signs now")
	k.scope, k.revoked = objects.KeyScope{}, true
	refused(byKey, "revoked")
	k.revoked, k.secret = false, "another"
	refused(byKey, "another secret")
	k.token = secondToken
	refused(byToken, "another token")
	_, err = b.Check("Basic " + encode(account+":"+secondToken))
	require.NoError(t, err)
	k.token = ""
	refused("Basic "+encode(account+":"+secondToken), "no token")
}

func TestRememberedCredentialsCostNoAllocation(t *testing.T) {
	b := auth.NewBasics(&changing{token: authToken, secret: secret})
	header := "Basic " + encode(keySID+":"+secret)
	b.Check(header)
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { b.Check(header) }), 1.0, "the list of secrets")
}

func BenchmarkBasics(b *testing.B) {
	all := auth.NewBasics(keyring{})
	header := "Basic " + encode(account+":"+authToken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := all.Check(header); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBasic(b *testing.B) {
	header := "Basic " + encode(account+":"+authToken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.Basic(header, keyring{}); err != nil {
			b.Fatal(err)
		}
	}
}
