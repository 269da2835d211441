package server

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/guard"
	"lockstep/server/nodedir"
)

// allowOperator lets the account pass, and API keys whose role is enough for what is
// asked. Wrong credentials wait for their answer.
func allowOperator(r *http.Request, needs admin.Needs, known auth.Keyring, watch *guard.Guard, proxies []netip.Prefix) (audit.Actor, error) {
	header := r.Header.Get("Authorization")
	p, err := auth.Operator(header, known)
	by := audit.Actor{Name: p.Name(), Source: audit.Source(r, proxies)}
	switch {
	case err == nil && p.KeySID != "" && p.Scope.Role == objects.RoleData: // a good key, for other things
		return by, objects.ErrUnauthorized
	case err == nil && p.KeySID != "" && !needs.By(p.Scope.Role):
		return by, objects.ErrKeyScope
	case err != nil && header != "":
		watch.Refused(r.Context(), "operator", by.Source)
	}
	return by, err
}

// allow is allowOperator on an open node. One that has not read the state yet goes
// by what its directory says.
func (n *node) allow(r *http.Request, needs admin.Needs) (audit.Actor, error) {
	var known auth.Keyring = n.keys
	if sid, _ := known.Account(); sid == "" {
		record := n.record.Copy()
		known = auth.Account{SID: record.AccountSID, AuthToken: record.AuthToken}.Keyring()
	}
	return allowOperator(r, needs, known, n.guard, n.config.TrustedProxies)
}

// accountInterval is how often the directory is compared with the state.
const accountInterval = time.Second

// followAccount keeps the account's auth token in the node's directory, where
// the command line finds it, as the state has it.
func (n *node) followAccount(ctx context.Context) {
	tick := time.NewTicker(accountInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_, token := n.store.View().Account()
		if token == "" || token == n.record.Copy().AuthToken {
			continue
		}
		if err := n.record.Change(func(r *nodedir.Record) { r.AuthToken = token }); err != nil {
			n.log.Error("auth token not kept", "error", err)
		}
	}
}

// runBeside runs a loop until the function that it returns is called, which
// waits for its end.
func runBeside(loop func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { loop(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
