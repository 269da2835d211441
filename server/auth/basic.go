package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"lockstep/objects"
)

// Basic checks the value of an Authorization header: the scheme Basic, in any
// case, with "AccountSid:AuthToken" or "ApiKeySid:ApiKeySecret". Anything else
// is objects.ErrUnauthorized.
func Basic(header string, k Keyring) (Principal, error) {
	user, password, ok := parseBasic(header)
	if !ok {
		return Principal{}, fmt.Errorf("no basic credentials: %w", objects.ErrUnauthorized)
	}
	return compare(user, password, k, func(s objects.KeyScope) bool { return !s.SignOnly && s.Role == objects.RoleData })
}

// Operator is Basic for those who look after the cluster. It knows every API key: one
// without the role for what is asked has right credentials all the same.
func Operator(header string, k Keyring) (Principal, error) {
	user, password, ok := parseBasic(header)
	if !ok {
		return Principal{}, fmt.Errorf("no basic credentials: %w", objects.ErrUnauthorized)
	}
	return compare(user, password, k, func(objects.KeyScope) bool { return true })
}

// compare returns whom a user and password belong to: the account, or a key of a
// scope that is good for this.
func compare(user, password string, k Keyring, good func(objects.KeyScope) bool) (Principal, error) {
	account, secrets := k.Account()
	p := Principal{AccountSID: account}
	if user != account {
		key, known := k.Key(user)
		p.KeySID, p.Scope = user, key.Scope
		secrets = []string{key.Secret}
		if !known || !good(key.Scope) {
			secrets = []string{""} // costs the same comparison
		}
	}
	matches := false
	for _, s := range secrets {
		matches = equalSecrets(password, s) && s != "" || matches
	}
	if !matches {
		return Principal{}, fmt.Errorf("unknown user or wrong password: %w", objects.ErrUnauthorized)
	}
	return p, nil
}

// longest is the most that credentials may have to be decoded on the stack.
const longest = 128

func parseBasic(header string) (user, password string, ok bool) {
	scheme, encoded, _ := strings.Cut(strings.TrimSpace(header), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	var buffer [longest]byte
	decoded, err := base64.StdEncoding.AppendDecode(buffer[:0], []byte(strings.TrimSpace(encoded)))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(decoded), ":")
}

// equalSecrets compares digests, so that neither content nor length shows in
// the time it takes.
func equalSecrets(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
