package console

import (
	"net/http"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/jsonbody"
)

// maxTokenRequest is more than any request for a token has.
const maxTokenRequest = 8 << 10

// mint makes an access token, signed with the key of the session. The account has no
// key of its own; one that is good for the service signs for it.
func (c *Console) mint(w http.ResponseWriter, r *http.Request, who *user) (any, error) {
	var asked struct {
		Service, Identity string
		Seconds           int64
		Page              bool // it is for a page's own use, which is nothing to record
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
	if err := jsonbody.Read(r, &asked); err != nil {
		return nil, err
	}
	if !who.rights().Sign {
		return nil, objects.ErrKeyScope
	}
	view := c.Node.View()
	service, ok := view.Service(fsm.ParseRef(asked.Service))
	switch {
	case !ok && who.Scope.Service.IsZero():
		return nil, objects.ErrServiceGone
	case !ok, !who.Scope.Service.IsZero() && service.SID != who.Scope.Service:
		return nil, objects.ErrKeyScope
	}
	spec := auth.TokenSpec{
		AccountSID: who.AccountSID, KeySID: who.KeySID, Identity: asked.Identity, ServiceSID: service.SID.String(),
		Lifetime: time.Duration(min(asked.Seconds, int64(auth.MaxLifetime/time.Second)+1)) * time.Second,
	}
	if spec.KeySID == "" {
		key := signer(view.Keys(), service.SID)
		if key == nil {
			return nil, objects.ErrParameter.With("There is no API key that could sign: make one with lockstep keys create")
		}
		spec.KeySID, spec.Secret = key.SID.String(), key.Secret
	} else {
		spec.Secret = c.secret(&who.session)
	}
	now := c.Clock()
	text, err := auth.Mint(spec, now)
	if err != nil {
		return nil, objects.ErrParameter.With("%v", err)
	}
	if !asked.Page {
		by := audit.Actor{Name: who.Principal.Name(), Source: audit.Source(r, c.TrustedProxies)}
		c.Audit.Record("access token made", by, "key", spec.KeySID, "identity", asked.Identity, "service", spec.ServiceSID)
	}
	lifetime := spec.Lifetime
	if lifetime == 0 {
		lifetime = auth.DefaultLifetime
	}
	return map[string]any{"token": text, "key": spec.KeySID, "expires": now.Add(lifetime).UTC().Format(time.RFC3339)}, nil
}

// signer returns a key that can sign for a service, the least powerful one.
func signer(keys []*objects.APIKey, service objects.SID) (best *objects.APIKey) {
	rank := func(k *objects.APIKey) (n int) {
		if k.SignOnly {
			n += 2
		}
		if !k.Service.IsZero() {
			n++
		}
		return n
	}
	for _, k := range keys {
		if k.Role != objects.RoleData || k.ReadOnly || !k.Service.IsZero() && k.Service != service {
			continue
		}
		if best == nil || rank(k) > rank(best) {
			best = k
		}
	}
	return best
}
