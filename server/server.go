// Package server is one node as its clients see it: the REST API, the realtime
// protocol and the operator's API, over a member of the cluster. It only composes:
// it makes the parts, starts and stops them in order, and hands each what it needs
// of the others.
//
// Server has what there is before the node belongs to a cluster; node.go is the
// node from then on, router.go finds the protocol of a client's request, operator.go
// answers operators, adapters.go is the cluster as other packages see it, and
// admission.go what the leader lets into the log.
//
// Run owns every goroutine below it and returns when all have ended. The package
// does not know how consensus works, and speaks no protocol itself.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"lockstep/server/acme"
	"lockstep/server/certificate"
	"lockstep/server/nodedir"
)

// Server is one node. Make it with New, and run it once.
type Server struct {
	config Config
	log    *slog.Logger
	live   *live

	certificate certificates       // nil: without TLS
	files       *certificate.Files // it comes from, or
	acme        *acme.Manager      // an authority
	members     *http.Client       // that asks them to let the node in; nil: the usual one
}

// New checks the configuration, and reads the files that it names. Nothing else is opened
// before Run.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c, log: c.Logger, live: newLive(c)}
	if err := s.newCertificate(); err != nil {
		return nil, err
	}
	var err error
	s.members, err = c.membersClient()
	return s, err
}

// Run runs the node until the context ends, the node has left its cluster or was
// removed from it (all of which return nil), or it cannot go on.
func (s *Server) Run(ctx context.Context) (err error) {
	l, err := listen(s.config, s.tlsConfig(), s.acme)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), requestsTimeout)
		defer cancel()
		err = errors.Join(err, l.close(closing))
	}()
	if s.config.Emulator != nil {
		return s.emulate(ctx, l)
	}
	release, err := nodedir.Claim(s.config.DataDir)
	if err != nil {
		return err
	}
	defer release()
	if err := s.noteFirstCertificate(); err != nil {
		return err
	}
	defer s.watchCertificate()()
	enroller := s.config.enroller(l, s.members)
	record, err := enroller.Identify(l.url, l.adminURL)
	if err != nil {
		return err
	}
	s.log.Info("starting", "node", record.ID, "version", s.config.Version, "http", l.url, "operators", record.OperatorURL(), "internal", record.InternalAddr, "gossip", record.GossipAddr)
	for _, warning := range s.config.warnings() {
		s.log.Warn(warning)
	}
	if !record.Member() {
		if err := enroller.Enter(ctx, record); err != nil {
			return endedBy(ctx, err)
		}
		l.show(starting())
	}
	n, err := s.newNode(ctx, l, enroller, record)
	if err != nil {
		return fmt.Errorf("open node: %w", err)
	}
	l.show(n.router, n.operator)
	err = endedBy(ctx, n.run(ctx))
	s.log.Info("stopped", "node", record.ID)
	return err
}

// endedBy returns nil for the errors that the end of ctx leaves behind.
func endedBy(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
