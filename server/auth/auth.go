// Package auth says who is asking: it checks the HTTP basic credentials of the
// REST API and the access tokens of the realtime protocol, and mints such
// tokens.
//
// Every refusal is one of the catalogue in package objects, wrapped with a
// reason that is meant for the log and not for the client.
//
// It does not decide what a Principal may do, does not know whether the
// service of a grant exists, and does not watch for keys that are revoked or
// tokens that expire later. It starts no goroutines and reads no clock.
package auth

import "time"

// Keyring is what this package needs to know of the installation's state.
type Keyring interface {
	// Account gives the SID of the account and its primary auth token.
	Account() (sid, token string)
	// Secret gives the secret of an API key; ok is false if there is no such
	// key, or no longer.
	Secret(keySID string) (secret string, ok bool)
}

// Principal is who asks.
type Principal struct {
	AccountSID string
	KeySID     string // the API key that opened the API or signed the token; empty for the auth token
	Token      bool   // an access token, not REST credentials

	// The rest is known of tokens only.

	Identity   string
	EndpointID string    // empty if the grant names none
	ServiceSID string    // as in the grant: a SID, or "default"
	Expires    time.Time // whole seconds
	Issued     time.Time // whole seconds; zero if the token does not say
}
