package auth

import (
	"crypto/rand"
	"errors"
	"fmt"

	"lockstep/objects"
)

// Account is the account's SID and its primary auth token.
type Account struct{ SID, AuthToken string }

// NewAccount makes up an account.
func NewAccount() Account {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return Account{SID: objects.NewSID(objects.KindAccount, random).String(), AuthToken: NewSecret()}
}

// NewSecret returns 32 letters and digits, of 160 bits: official helper libraries
// refuse to send other characters, and this is as long as what they are used to.
func NewSecret() string { return (rand.Text() + rand.Text())[:32] }

// Validate returns what is wrong with an account; none at all is right.
func (a Account) Validate() error {
	if a == (Account{}) {
		return nil
	}
	if sid, ok := objects.ParseSID(a.SID); !ok || sid.Kind() != objects.KindAccount {
		return errors.New("LOCKSTEP_ACCOUNT_SID must be AC and 32 lower-case hexadecimal digits")
	}
	if !isAlphanumeric(a.AuthToken) {
		// Helper libraries refuse to send anything else.
		return errors.New("LOCKSTEP_AUTH_TOKEN must be letters and digits")
	}
	return nil
}

func isAlphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// A new cluster's auth token has at least so many characters, of so many kinds:
// guessing is slow, but it goes on for ever.
const (
	minTokenLength = 24
	minTokenKinds  = 8
)

// ValidateStrength returns why an account's token is too weak for a new cluster.
func (a Account) ValidateStrength() error {
	kinds := make(map[rune]bool)
	for _, c := range a.AuthToken {
		kinds[c] = true
	}
	if len(a.AuthToken) < minTokenLength || len(kinds) < minTokenKinds {
		return fmt.Errorf("LOCKSTEP_AUTH_TOKEN is too easy to guess for a new cluster: take at least %d letters and digits, of at least %d kinds; left out, a good one is made up", minTokenLength, minTokenKinds)
	}
	return nil
}

// Keyring returns what a node knows that has not read the state yet: the account
// alone.
func (a Account) Keyring() Keyring { return accountKeyring{a} }

type accountKeyring struct{ account Account }

// Account implements Keyring.
func (k accountKeyring) Account() (sid string, tokens []string) {
	return k.account.SID, []string{k.account.AuthToken}
}

// Key implements Keyring.
func (accountKeyring) Key(string) (Key, bool) { return Key{}, false }
