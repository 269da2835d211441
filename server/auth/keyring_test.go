package auth_test

import (
	"strings"
	"time"
)

var (
	account = "AC" + strings.Repeat("0a", 16)
	keySID  = "SK" + strings.Repeat("1b", 16)
	service = "IS" + strings.Repeat("2c", 16)
	now     = time.Unix(1_767_323_045, 0)
)

const (
	authToken = "fakeauthtokenfakeauthtokenfake00"
	secret    = "fakesecretfakesecretfakesecret00"
)

// keyring is an account with one key, and one whose secret is empty.
type keyring struct{ revoked bool }

func (keyring) Account() (sid, token string) { return account, authToken }

func (k keyring) Secret(sid string) (string, bool) {
	switch {
	case sid == keySID && !k.revoked:
		return secret, true
	case sid == "SKempty":
		return "", true
	}
	return "", false
}
