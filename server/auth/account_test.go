package auth_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/auth"
)

func TestSecretsAreForEveryLibrary(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		a := auth.NewAccount()
		require.NoError(t, a.Validate())
		require.NoError(t, a.ValidateStrength())
		require.Len(t, a.AuthToken, 32)
		require.False(t, seen[a.AuthToken])
		seen[a.AuthToken] = true
	}
}

func TestAccountsAreValidated(t *testing.T) {
	sid := "AC" + strings.Repeat("a1", 16)
	require.NoError(t, auth.Account{}.Validate(), "none is given")
	require.NoError(t, auth.Account{SID: sid, AuthToken: "aB3"}.Validate())
	for _, a := range []auth.Account{{SID: sid}, {AuthToken: "aB3"}, {SID: "x", AuthToken: "aB3"}, {SID: sid, AuthToken: "with-dash"}, {SID: "IS" + sid[2:], AuthToken: "aB3"}} {
		require.Error(t, a.Validate(), "%+v", a)
	}
	for _, token := range []string{"a", "token1234567890", "abcabcabcabcabcabcabcabcabcabcabc"} {
		require.ErrorContains(t, auth.Account{SID: sid, AuthToken: token}.ValidateStrength(), "too easy to guess")
	}
}

func TestAccountAloneIsAKeyring(t *testing.T) {
	a := auth.NewAccount()
	k := a.Keyring()
	sid, tokens := k.Account()
	require.Equal(t, a.SID, sid)
	require.Equal(t, []string{a.AuthToken}, tokens)
	_, ok := k.Key("SK1")
	require.False(t, ok)
}
