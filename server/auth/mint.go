package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lockstep/objects"
)

// TokenSpec says which access token to mint.
type TokenSpec struct {
	AccountSID string
	KeySID     string
	Secret     string // of the key
	Identity   string
	ServiceSID string        // a service's SID, or "default"
	EndpointID string        // optional
	Lifetime   time.Duration // whole seconds; zero: DefaultLifetime
}

// Mint makes an access token as the official helper libraries do (twilio for
// Node, jwt/AccessToken), issued now.
func Mint(spec TokenSpec, now time.Time) (string, error) {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return "", fmt.Errorf("mint access token: %w", err)
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        fmt.Sprintf("%s-%d", spec.KeySID, now.Unix()),
			Issuer:    spec.KeySID,
			Subject:   spec.AccountSID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(spec.Lifetime)),
		},
		Grants: grants{
			Identity: spec.Identity,
			Sync:     syncGrant{ServiceSID: spec.ServiceSID, EndpointID: spec.EndpointID},
		},
	})
	token.Header["cty"] = contentType
	text, err := token.SignedString([]byte(spec.Secret))
	if err != nil {
		return "", fmt.Errorf("mint access token: %w", err)
	}
	return text, nil
}

func (s TokenSpec) withDefaults() TokenSpec {
	if s.Lifetime == 0 {
		s.Lifetime = DefaultLifetime
	}
	return s
}

func (s TokenSpec) validate() error {
	switch {
	case s.AccountSID == "" || s.KeySID == "" || s.Secret == "" || s.ServiceSID == "":
		return errors.New("account, key, secret and service are required")
	case s.Lifetime < time.Second || s.Lifetime > MaxLifetime || s.Lifetime%time.Second != 0:
		return fmt.Errorf("the lifetime must be whole seconds, at least one and at most %v", MaxLifetime)
	}
	return objects.ValidateIdentity(s.Identity)
}
