package server

import (
	"crypto/rand"
	"encoding/hex"

	"lockstep/fsm/commandid"
	"lockstep/objects"
)

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
	return Account{SID: newSID(objects.KindAccount).String(), AuthToken: rand.Text()}
}

// randomHex returns n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func newClusterID() string { return "lockstep-" + randomHex(8) }
