package server

import (
	"crypto/rand"
	"encoding/hex"

	"lockstep/fsm"
	"lockstep/objects"
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// secretLength makes a secret of 190 bits.
const secretLength = 32

// newSecret makes a secret of letters and digits: official helper libraries
// refuse to send any other.
func newSecret() string {
	// Bytes from here on would make some characters likelier than others.
	const bound = 256 / len(alphabet) * len(alphabet)
	secret := make([]byte, 0, secretLength)
	for random := make([]byte, secretLength); len(secret) < secretLength; {
		rand.Read(random) // never fails
		for _, b := range random {
			if int(b) < bound && len(secret) < secretLength {
				secret = append(secret, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(secret)
}

func isAlphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

func newSID(kind objects.Kind) objects.SID { return objects.NewSID(kind, fsm.NewID()) }

// NewAccount makes up an account.
func NewAccount() Account {
	return Account{SID: newSID(objects.KindAccount).String(), AuthToken: newSecret()}
}

// randomHex gives n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

func newClusterID() string { return "lockstep-" + randomHex(8) }
