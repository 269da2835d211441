package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/jsonbody"
	"lockstep/server/origin"
)

const (
	cookieName = "lockstep_console"

	// Lifetime is how long a session lasts.
	Lifetime = 8 * time.Hour

	// maxLogin is more than any login has.
	maxLogin = 4 << 10
)

// session is what the cookie says, sealed.
type session struct {
	ID     string `json:"id"`
	Name   string `json:"name"`   // SID of an API key, or of the account
	Digest []byte `json:"digest"` // of the secret: another one is another login
	Until  int64  `json:"until"`  // Unix milliseconds
}

// user is who is logged in.
type user struct {
	session
	auth.Principal
	header string // the credentials, as the handlers behind want them
}

// digest stands for a secret in a cookie.
func digest(secret string) []byte {
	sum := sha256.Sum256([]byte("lockstep console\x00" + secret))
	return sum[:16]
}

// login begins a session.
func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Key, Secret string }
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := jsonbody.Read(r, &asked); err != nil {
		refuse(w, err)
		return
	}
	asked.Key, asked.Secret = strings.TrimSpace(asked.Key), strings.TrimSpace(asked.Secret)
	by := audit.Source(r, c.TrustedProxies)
	p, err := auth.Operator(basic(asked.Key, asked.Secret), c.Keyring)
	if err != nil {
		if !c.Refused(r.Context(), by) {
			w.Header().Set("Connection", "close")
		}
		refuse(w, err)
		return
	}
	now := c.Clock()
	s := session{ID: rand.Text(), Name: asked.Key, Digest: digest(asked.Secret), Until: now.Add(Lifetime).UnixMilli()}
	if err := c.sessions.use(&s, now); err != nil {
		refuse(w, err)
		return
	}
	plain, err := json.Marshal(s)
	if err == nil {
		plain, err = c.Node.Seal(plain)
	}
	if err != nil {
		c.Logger.Error("no session was made", "error", err)
		refuse(w, objects.ErrUnavailable)
		return
	}
	c.setCookie(w, r, base64.RawURLEncoding.EncodeToString(plain), int(Lifetime/time.Second))
	c.Audit.Record("console login", audit.Actor{Name: p.Name(), Source: by})
	who := &user{session: s, Principal: p}
	jsonbody.Write(w, http.StatusOK, c.describe(who))
}

// setCookie sets the cookie, or takes it away.
func (c *Console) setCookie(w http.ResponseWriter, r *http.Request, value string, seconds int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName, Value: value, Path: Prefix, MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: strings.HasPrefix(origin.Of(r, c.PublicURL, c.TrustedProxies), "https:"),
	})
}

// logout ends a session on every node that can be reached.
func (c *Console) logout(w http.ResponseWriter, r *http.Request, who *user) (any, error) {
	c.setCookie(w, r, "", -1)
	c.tellAll(r.Context(), question{Part: partLogout, Session: who.ID, Until: who.Until})
	c.Audit.Record("console logout", audit.Actor{Name: who.Principal.Name(), Source: audit.Source(r, c.TrustedProxies)})
	return nil, nil
}

// authenticate returns who is logged in.
func (c *Console) authenticate(r *http.Request) (*user, error) {
	who, err := c.user(r)
	if errors.Is(err, errGone) {
		return nil, fmt.Errorf("%w: %w", objects.ErrUnauthorized, err)
	}
	return who, err
}

func (c *Console) user(r *http.Request) (*user, error) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return nil, errGone
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return nil, errGone
	}
	plain, err := c.Node.Unseal(sealed)
	if err != nil {
		return nil, errGone // sealed by another cluster, or with a key of long ago
	}
	who := &user{}
	if err := json.Unmarshal(plain, &who.session); err != nil {
		return nil, errGone
	}
	now := c.Clock()
	if now.UnixMilli() >= who.Until || c.sessions.hasEnded(who.ID) || !c.stillGood(who) {
		return nil, errGone
	}
	return who, c.sessions.use(&who.session, now)
}

// stillGood reports whether the credentials of a session are what they were, and
// fills in what they are good for.
func (c *Console) stillGood(who *user) bool {
	secret := c.secret(&who.session)
	if secret == "" {
		return false
	}
	header := basic(who.session.Name, secret)
	p, err := auth.Operator(header, c.Keyring)
	who.header, who.Principal = header, p
	return err == nil
}

// secret returns the secret that a session was begun with; empty if it is none any
// more.
func (c *Console) secret(s *session) string {
	account, secrets := c.Keyring.Account()
	if s.Name != account {
		key, _ := c.Keyring.Key(s.Name)
		secrets = []string{key.Secret}
	}
	for _, secret := range secrets {
		if secret != "" && subtle.ConstantTimeCompare(digest(secret), s.Digest) == 1 {
			return secret
		}
	}
	return ""
}

func basic(name, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret))
}
