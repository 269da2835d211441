package auth

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lockstep/objects"
)

// Claim is one part of an access token, as Examine found it.
type Claim struct {
	Name    string `json:"claim"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem,omitempty"`   // why a node refuses the token for it; empty: it does not
	Unknown string `json:"unchecked,omitempty"` // why it could not be looked at
}

// Examine says of each part of an access token what it is, and what is wrong with it
// at the time now. Token refuses a token that has a problem, at the first one; this
// goes on, for whoever has to find out why. What is not known of the spec (account,
// key or secret) is not looked at.
func Examine(text string, known TokenSpec, now time.Time) []Claim {
	var c claims
	t, parts, err := jwt.NewParser().ParseUnverified(text, &c)
	if err != nil {
		return []Claim{{Name: "form", Problem: fmt.Sprintf("it is no JSON Web Token: %v", err)}}
	}
	return []Claim{
		algorithm(t), contents(t),
		known.account(c.Subject), known.key(c.Issuer), known.signature(t, parts, c.Issuer),
		c.expiry(now), c.start(now), c.issue(now), c.lifetime(now),
		c.identity(), c.grant(),
	}
}

// found makes a claim of its value and of what is wrong with it, if anything is.
func found(name, value string, wrong bool, problem string) Claim {
	if !wrong {
		problem = ""
	}
	return Claim{Name: name, Value: value, Problem: problem}
}

func algorithm(t *jwt.Token) Claim {
	alg, _ := t.Header["alg"].(string)
	return found("alg", alg, alg != jwt.SigningMethodHS256.Alg(), "it must be signed by HS256")
}

func contents(t *jwt.Token) Claim {
	cty, present := t.Header["cty"]
	return found("cty", fmt.Sprint(valueOr(cty, "none")), present && cty != contentType, "it must be "+contentType)
}

func valueOr(value any, none string) any {
	if value == nil {
		return none
	}
	return value
}

func (s TokenSpec) account(subject string) Claim {
	if s.AccountSID == "" {
		return Claim{Name: "sub", Value: subject, Unknown: "the account is not known"}
	}
	return found("sub", subject, subject != s.AccountSID, "it must be the account, which is "+s.AccountSID)
}

func (s TokenSpec) key(issuer string) Claim {
	sid, ok := objects.ParseSID(issuer)
	if !ok || sid.Kind() != objects.KindKey {
		return Claim{Name: "iss", Value: issuer, Problem: "it must be the SID of an API key, which begins with SK"}
	}
	if issuer != s.KeySID {
		return Claim{Name: "iss", Value: issuer, Unknown: "the key is not the one at hand"}
	}
	return Claim{Name: "iss", Value: issuer}
}

func (s TokenSpec) signature(t *jwt.Token, parts []string, issuer string) Claim {
	const name = "signature"
	if s.Secret == "" || issuer != s.KeySID {
		return Claim{Name: name, Unknown: "the key's secret is not known"}
	}
	signature, err := jwt.NewParser().DecodeSegment(parts[2])
	if err == nil {
		err = jwt.SigningMethodHS256.Verify(parts[0]+"."+parts[1], signature, []byte(s.Secret))
	}
	return found(name, "", err != nil, "it was made with another secret, or the token was altered")
}

func (c *claims) expiry(now time.Time) Claim {
	if c.ExpiresAt == nil {
		return Claim{Name: "exp", Problem: "a token must expire"}
	}
	return found("exp", moment(c.ExpiresAt), !now.Before(c.ExpiresAt.Time), fmt.Sprintf("it expired %v ago", now.Sub(c.ExpiresAt.Time).Round(time.Second)))
}

func (c *claims) start(now time.Time) Claim {
	begins, _ := c.GetNotBefore() // never fails
	if begins == nil {
		return Claim{Name: "nbf", Value: "none"}
	}
	return found("nbf", moment(c.NotBefore), now.Before(begins.Time), fmt.Sprintf("it is good from %v on: compare the clocks", c.NotBefore.Sub(now).Round(time.Second)))
}

func (c *claims) issue(now time.Time) Claim {
	if c.IssuedAt == nil {
		return Claim{Name: "iat", Value: "none"}
	}
	return found("iat", moment(c.IssuedAt), c.IssuedAt.Sub(now) > maxSkew, "it was issued in the future: compare the clocks")
}

func (c *claims) lifetime(now time.Time) Claim {
	if c.ExpiresAt == nil {
		return Claim{Name: "lifetime", Unknown: "it has none"}
	}
	issued := now.Add(maxSkew)
	if c.IssuedAt != nil {
		issued = c.IssuedAt.Time
	}
	life := c.ExpiresAt.Sub(issued)
	return found("lifetime", life.Round(time.Second).String(), life > MaxLifetime, fmt.Sprintf("it must be %v at most", MaxLifetime))
}

func (c *claims) identity() Claim {
	err := objects.ValidateIdentity(c.Grants.Identity)
	if err != nil {
		return Claim{Name: "grants.identity", Value: c.Grants.Identity, Problem: err.Error()}
	}
	return Claim{Name: "grants.identity", Value: c.Grants.Identity}
}

func (c *claims) grant() Claim {
	service := c.Grants.Sync.ServiceSID
	return found("grants.data_sync", service, service == "", "it must have service_sid, a service's SID or default")
}

func moment(d *jwt.NumericDate) string { return d.UTC().Format(time.RFC3339) }

// Problem returns an error that names the claims for which a token is refused; nil
// if there is none.
func Problem(found []Claim) error {
	var all []error
	for _, c := range found {
		if c.Problem != "" {
			all = append(all, fmt.Errorf("%s: %s", c.Name, c.Problem))
		}
	}
	return errors.Join(all...)
}
