package server

import (
	"context"
	"errors"
	"fmt"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// Emulator is a node for the tests of applications: a cluster of its own, in memory,
// with credentials that are known beforehand. It does all that a node does, by the same
// log and store, but for what outlasts the process.
type Emulator struct {
	// APIKey and APISecret are those of a key of the account that there is from the
	// start on, and again after a reset.
	APIKey, APISecret string

	// Serving is called once, with the node's URL, when the first write was acknowledged.
	Serving func(url string)

	resets chan chan<- struct{} // each is closed when that was done
	over   <-chan struct{}      // closed when it begins anew no more
}

// errReset ends a node whose emulator begins anew.
var errReset = errors.New("the emulator begins anew")

func (e *Emulator) validate(c Config, fault func(format string, args ...any)) {
	if c.DataDir != "" {
		fault("what is kept in memory needs no --data-dir")
	}
	if c.Join != "" || c.TLS.on() || c.ACME.Domain != "" || c.AdminAddr != "" || c.Backups.Dir != "" {
		fault("one node in memory joins nobody, serves without TLS on one address, and makes no backups by itself")
	}
	if sid, ok := objects.ParseSID(e.APIKey); !ok || sid.Kind() != objects.KindKey {
		fault("LOCKSTEP_API_KEY must be SK and 32 lower-case hexadecimal digits")
	}
	if e.APISecret == "" {
		fault("LOCKSTEP_API_SECRET is missing")
	}
}

// emulate runs one node in memory after the other until ctx ends.
func (s *Server) emulate(ctx context.Context, l *listener) error {
	// It is over as soon as it is to stop: a node that stops waits for the requests under
	// way, which must not wait for one that comes after it.
	running, stop := context.WithCancel(ctx)
	defer stop()
	e := s.config.Emulator
	e.resets, e.over = make(chan chan<- struct{}), running.Done()
	done := func() { e.Serving(l.url) }
	for {
		n, err := s.beginInMemory(ctx, l)
		if err != nil {
			return endedBy(ctx, err)
		}
		l.show(n.router, n.operator)
		done()
		life, end := context.WithCancelCause(ctx)
		ended := make(chan error, 1)
		go func() { ended <- n.run(life) }()
		select {
		case err := <-ended:
			end(nil)
			return endedBy(ctx, err)
		case anew := <-e.resets:
			done = func() { close(anew) }
			l.show(starting())
			end(errReset)
			if err := <-ended; err != nil {
				return endedBy(ctx, err)
			}
		}
	}
}

// beginInMemory opens a node and makes its cluster, with the account and its key.
func (s *Server) beginInMemory(ctx context.Context, l *listener) (*node, error) {
	enroller := s.config.enroller(l, nil)
	enroller.Bootstrap = true
	record, err := enroller.Identify(l.url, "")
	if err != nil {
		return nil, err
	}
	if err := enroller.Enter(ctx, record); err != nil {
		return nil, err
	}
	n, err := s.newNode(ctx, l, enroller, record)
	if err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	if err := s.equip(ctx, n); err != nil {
		return nil, errors.Join(err, n.realtime.Close(), n.cluster.Close())
	}
	return n, nil
}

// reset has the emulator begin anew, and returns when it has.
func (e *Emulator) reset(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case e.resets <- done:
	case <-e.over:
		return objects.ErrUnavailable
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-e.over:
		return objects.ErrUnavailable
	case <-ctx.Done():
		return ctx.Err()
	}
}

// equip makes what a client of the emulator knows beforehand.
func (s *Server) equip(ctx context.Context, n *node) error {
	if err := n.enroller.Settle(ctx, n.cluster, n.record); err != nil {
		return err
	}
	sid, _ := objects.ParseSID(s.config.Emulator.APIKey)
	r, err := n.store.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.CreateKey{
		SID: sid, Secret: s.config.Emulator.APISecret, FriendlyName: "emulator",
	}})
	switch {
	case err != nil:
		return fmt.Errorf("make the emulator's key: %w", err)
	case r.Err != nil:
		return fmt.Errorf("make the emulator's key: %w", r.Err)
	}
	select {
	case <-n.cluster.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
