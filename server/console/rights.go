package console

import (
	"net/http"
	"time"

	"lockstep/objects"
)

// rights are what a page offers to whoever is logged in. They are a convenience: the
// handlers behind decide for themselves.
type rights struct {
	Account  bool   `json:"account"`  // everything
	Operator bool   `json:"operator"` // the operators' API
	Cluster  bool   `json:"cluster"`  // how the cluster is
	Data     bool   `json:"data"`     // services and what they hold
	Write    bool   `json:"write"`
	Sign     bool   `json:"sign"`              // access tokens
	Service  string `json:"service,omitempty"` // SID of the only one
}

func (u *user) rights() rights {
	s := u.Scope
	if u.KeySID == "" {
		return rights{Account: true, Operator: true, Cluster: true, Data: true, Write: true, Sign: true}
	}
	if s.Role != objects.RoleData {
		return rights{Operator: true, Cluster: true}
	}
	r := rights{Data: !s.SignOnly, Write: !s.SignOnly && !s.ReadOnly, Sign: !s.ReadOnly, Cluster: !s.SignOnly && s.Service.IsZero()}
	if !s.Service.IsZero() {
		r.Service = s.Service.String()
	}
	return r
}

// mayUse reports whether a service is one that the user sees the data of.
func (u *user) mayUse(service objects.SID) bool {
	return u.rights().Data && (u.Scope.Service.IsZero() || u.Scope.Service == service)
}

// identity tells the pages who is logged in.
type identity struct {
	Name       string `json:"name"`
	Friendly   string `json:"friendly_name,omitempty"`
	Rights     rights `json:"rights"`
	Until      string `json:"until"`
	AccountSID string `json:"account_sid"`
	Node       string `json:"node"` // that answers
	ClusterID  string `json:"cluster_id"`
	Version    string `json:"version"`
}

func (c *Console) describe(who *user) identity {
	view := c.Node.View()
	x := identity{
		Name: who.session.Name, Rights: who.rights(), Until: time.UnixMilli(who.Until).UTC().Format(time.RFC3339),
		AccountSID: who.AccountSID, Node: c.Node.ID(), ClusterID: view.ClusterID(), Version: c.Version,
	}
	if sid, ok := objects.ParseSID(who.KeySID); ok {
		if key, ok := view.Key(sid); ok {
			x.Friendly = key.FriendlyName
		}
	}
	return x
}

func (c *Console) whoami(_ http.ResponseWriter, _ *http.Request, who *user) (any, error) {
	return c.describe(who), nil
}
