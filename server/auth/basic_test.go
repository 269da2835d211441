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

func BenchmarkBasic(b *testing.B) {
	header := "Basic " + encode(account+":"+authToken)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.Basic(header, keyring{}); err != nil {
			b.Fatal(err)
		}
	}
}
