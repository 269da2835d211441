package server

import (
	"context"
	"net/http"

	"lockstep/server/admin"
	"lockstep/server/audit"
	"lockstep/server/auth"
	"lockstep/server/enrol"
	"lockstep/server/guard"
	"lockstep/server/rest"
)

// serveWaiting is enrol.Enroller.Serve: it shows a node that waits to join.
func serveWaiting(ctx context.Context, c Config, l *listener, account auth.Account, join admin.JoinFunc) error {
	watch := guard.New(guard.Config{Delay: c.Bounds.FailureDelay, Waiting: c.Bounds.FailuresWaiting, Audit: audit.New(c.Audit)})
	defer runBeside(watch.Run)()
	allow := func(q *http.Request, needs admin.Needs) (audit.Actor, error) {
		return allowOperator(q, needs, account.Keyring(), watch, c.TrustedProxies)
	}
	clients := rest.Unavailable(enrol.WaitsToJoin)
	l.show(clients, admin.PreJoinHandler(enrol.WaitsToJoin, clients, allow, join))
	select {
	case err := <-l.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// starting answers clients and operators while the node is being opened, and may
// be asked nothing.
func starting() (clients, operators http.Handler) {
	const reason = "it is starting"
	clients = rest.Unavailable(reason)
	return clients, admin.PreJoinHandler(reason, clients, nil, nil)
}
