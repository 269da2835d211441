package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lockstep/objects"
)

const (
	// MaxLifetime is how long an access token may live.
	MaxLifetime = 24 * time.Hour
	// DefaultLifetime is how long one lives if nothing is said.
	DefaultLifetime = time.Hour

	// contentType is the header "cty" of access tokens.
	contentType = "twilio-fpa;v=1"
	// maxSkew is how far the clock of the application's server, which makes
	// the tokens, may be ahead.
	maxSkew = 5 * time.Minute
	// beginSkew is by how much a token may be used before its time: a clock that
	// is a little ahead must not turn away everybody who has just got one.
	beginSkew = 5 * time.Second
)

// claims is the payload of an access token, as the official helper libraries
// write it.
type claims struct {
	jwt.RegisteredClaims
	Grants grants `json:"grants"`
}

// GetNotBefore implements jwt.Claims.
func (c claims) GetNotBefore() (*jwt.NumericDate, error) {
	if c.NotBefore == nil {
		return nil, nil
	}
	return jwt.NewNumericDate(c.NotBefore.Add(-beginSkew)), nil
}

type grants struct {
	Identity string    `json:"identity"`
	Sync     syncGrant `json:"data_sync"`
}

type syncGrant struct {
	ServiceSID string `json:"service_sid"`
	EndpointID string `json:"endpoint_id,omitempty"`
}

// Token checks an access token at the time now: a JWT with an HS256 signature
// by an API key of the account, an identity and a Sync grant, which expires,
// and lives no longer than MaxLifetime.
//
// Errors: objects.ErrTokenExpired and objects.ErrTokenNotYetValid for a token
// that is otherwise signed as it should be; objects.ErrTokenInvalid for
// everything else.
func Token(text string, k Keyring, now time.Time) (Principal, error) {
	var c claims
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithExpirationRequired(),
		jwt.WithTimeFunc(func() time.Time { return now }),
	)
	_, err := parser.ParseWithClaims(text, &c, func(t *jwt.Token) (any, error) { return signingKey(t, &c, k) })
	if err != nil {
		return Principal{}, fmt.Errorf("%w: %w", refusal(err), err)
	}
	if err := c.check(now); err != nil {
		return Principal{}, err
	}
	key, _ := k.Key(c.Issuer)
	return Principal{
		Scope:      key.Scope,
		AccountSID: c.Subject,
		KeySID:     c.Issuer,
		Token:      true,
		Identity:   c.Grants.Identity,
		EndpointID: c.Grants.Sync.EndpointID,
		ServiceSID: c.Grants.Sync.ServiceSID,
		Expires:    c.ExpiresAt.Time,
	}, nil
}

// ErrUnknownKey is in the error of a token that was issued with a key which the
// keyring does not know.
var ErrUnknownKey = errors.New("the token was issued with an unknown key")

// signingKey returns the secret that must have signed a token, whose claims are
// not to be trusted yet.
func signingKey(t *jwt.Token, c *claims, k Keyring) ([]byte, error) {
	if cty, present := t.Header["cty"]; present && cty != contentType {
		return nil, errors.New("the token is of another content type")
	}
	if account, _ := k.Account(); c.Subject != account {
		return nil, errors.New("the token is for another account")
	}
	key, ok := k.Key(c.Issuer)
	switch {
	case !ok || key.Secret == "":
		return nil, ErrUnknownKey
	case key.Scope.ReadOnly || key.Scope.Role != objects.RoleData:
		return nil, errors.New("the token was issued with a key that signs none")
	}
	return []byte(key.Secret), nil
}

// refusal says which error of the catalogue an error of the parser is. The
// parser looks at times only after the signature has been found right.
func refusal(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return objects.ErrTokenExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return objects.ErrTokenNotYetValid
	}
	return objects.ErrTokenInvalid
}

// check looks at what the parser leaves to its user.
func (c *claims) check(now time.Time) error {
	if objects.ValidateIdentity(c.Grants.Identity) != nil {
		return fmt.Errorf("%w: no valid identity", objects.ErrTokenInvalid)
	}
	if c.Grants.Sync.ServiceSID == "" {
		return fmt.Errorf("%w: no grant for a service of Sync", objects.ErrTokenInvalid)
	}
	// Not all helper libraries say when; then the clock that made the token may be
	// ahead by as much.
	issued := now.Add(maxSkew)
	if c.IssuedAt != nil {
		issued = c.IssuedAt.Time
	}
	// Dated ahead, a token could live longer than it seems to.
	if issued.Sub(now) > maxSkew {
		return fmt.Errorf("%w: issued in the future", objects.ErrTokenNotYetValid)
	}
	if c.ExpiresAt.Sub(issued) > MaxLifetime {
		return fmt.Errorf("%w: it lives longer than %v", objects.ErrTokenInvalid, MaxLifetime)
	}
	return nil
}
