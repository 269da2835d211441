package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

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
	return compare(user, password, k, opensData, equalSecrets)
}

func opensData(s objects.KeyScope) bool { return !s.SignOnly && s.Role == objects.RoleData }

// Operator is Basic for those who look after the cluster. It knows every API key: one
// without the role for what is asked has right credentials all the same.
func Operator(header string, k Keyring) (Principal, error) {
	user, password, ok := parseBasic(header)
	if !ok {
		return Principal{}, fmt.Errorf("no basic credentials: %w", objects.ErrUnauthorized)
	}
	return compare(user, password, k, func(objects.KeyScope) bool { return true }, equalSecrets)
}

// compare returns whom a user and password belong to: the account, or a key of a
// scope that is good for this.
func compare(user, password string, k Keyring, good func(objects.KeyScope) bool, equal func(a, b string) bool) (Principal, error) {
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
		matches = equal(password, s) && s != "" || matches
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

// Basics is Basic for many requests with few credentials. It remembers headers that
// had the right ones, and of such a header it only looks whether they still are: it
// decodes nothing and makes no digests. Whoever guesses learns nothing by it, since
// what is remembered is found by a hash that nobody can foresee.
type Basics struct {
	keyring Keyring
	seed    maphash.Seed
	right   [rightHeaders]atomic.Pointer[rightHeader] // by hash
}

// rightHeaders is how many headers are remembered at most.
const rightHeaders = 64

type rightHeader struct {
	hash                   uint64
	header, user, password string
}

// NewBasics returns Basics that remember nothing yet.
func NewBasics(k Keyring) *Basics { return &Basics{keyring: k, seed: maphash.MakeSeed()} }

// Check is Basic.
func (b *Basics) Check(header string) (Principal, error) {
	hash := maphash.String(b.seed, header)
	place := &b.right[hash%rightHeaders]
	if r := place.Load(); r != nil && r.hash == hash && r.header == header {
		// The password is one that was right, so time tells nothing of it.
		if p, err := compare(r.user, r.password, b.keyring, opensData, func(a, b string) bool { return a == b }); err == nil {
			return p, nil
		}
	}
	p, err := Basic(header, b.keyring)
	if err == nil {
		user, password, _ := parseBasic(header)
		place.Store(&rightHeader{hash, strings.Clone(header), user, password})
	}
	return p, err
}
