package server

import (
	"crypto/rand"
	"encoding/hex"

	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// newSecret returns 32 letters and digits, of 160 bits: official helper libraries
// refuse to send other characters, and this is as long as what they are used to.
func newSecret() string { return (rand.Text() + rand.Text())[:32] }

func isAlphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

func newSID(kind objects.Kind) objects.SID { return objects.NewSID(kind, commandid.New()) }

// NewAccount makes up an account.
func NewAccount() Account {
	return Account{SID: newSID(objects.KindAccount).String(), AuthToken: newSecret()}
}

// randomHex returns n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func newClusterID() string { return "lockstep-" + randomHex(8) }
