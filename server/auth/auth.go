// Package auth says who is asking: it checks the HTTP basic credentials of the
// REST API and the access tokens of the realtime protocol, and mints such
// tokens.
//
// A key that only signs tokens does not open the API, and one that only reads
// signs no tokens; that a key is good for one service only is for those to hold
// who know the services (Principal.Scope).
//
// Every refusal is one of the catalogue in package objects, wrapped with a
// reason that is meant for the log and not for the client.
//
// It does not decide what a Principal may do, does not know whether the
// service of a grant exists, and does not watch for keys that are revoked or
// tokens that expire later. It starts no goroutines and reads no clock.
package auth

import (
	"time"

	"lockstep/objects"
)

// Keyring is what this package needs to know of the installation's state.
type Keyring interface {
	// Account returns the SID of the account and the auth tokens that are valid:
	// two while the account changes over from one to the other.
	Account() (sid string, tokens []string)
	// Key returns an API key; ok is false if there is no such key, or no longer.
	Key(keySID string) (key Key, ok bool)
}

// Key is what this package needs to know of an API key.
type Key struct {
	Secret string
	Scope  objects.KeyScope
}

// Principal is who asks.
type Principal struct {
	AccountSID string
	KeySID     string           // the API key that opened the API or signed the token; empty for the auth token
	Scope      objects.KeyScope // of that key
	Token      bool             // an access token, not REST credentials

	// The rest is known of tokens only.

	Identity   string
	EndpointID string    // empty if the grant names none
	ServiceSID string    // as in the grant: a SID, or "default"
	Expires    time.Time // whole seconds
}

// Name returns the credential by which the principal is known: the SID of the
// API key or of the account.
func (p Principal) Name() string {
	if p.KeySID != "" {
		return p.KeySID
	}
	return p.AccountSID
}
