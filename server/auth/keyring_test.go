package auth_test

import (
	"strings"
	"time"

	"lockstep/objects"
	"lockstep/server/auth"
)

var (
	account = "AC" + strings.Repeat("0a", 16)
	keySID  = "SK" + strings.Repeat("1b", 16)
	service = "IS" + strings.Repeat("2c", 16)
	now     = time.Unix(1_767_323_045, 0)
)

const (
	authToken   = "fakeauthtokenfakeauthtokenfake00"
	secondToken = "faketokenfaketokenfaketokenfak01"
	secret      = "fakesecretfakesecretfakesecret00"
)

// keyring is an account with one key, and one whose secret is empty.
type keyring struct {
	revoked bool
	scope   objects.KeyScope
}

func (keyring) Account() (sid string, tokens []string) {
	return account, []string{authToken, secondToken}
}

func (k keyring) Key(sid string) (auth.Key, bool) {
	switch {
	case sid == keySID && !k.revoked:
		return auth.Key{Secret: secret, Scope: k.scope}, true
	case sid == "SKempty":
		return auth.Key{}, true
	}
	return auth.Key{}, false
}
