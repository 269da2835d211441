package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/auth"
	"lockstep/server/limits"
	"lockstep/server/trace"
)

// store is the cluster as the client-facing packages see it: api.Node and
// webhook.Node.
type store struct {
	cluster *cluster.Node
	limits  *limits.Limits
	metrics *metrics
	tracer  *trace.Tracer
}

// Propose implements api.Node.
func (s store) Propose(ctx context.Context, c *fsm.Command) (r *fsm.Result, err error) {
	start := time.Now()
	if end := s.tracer.Propose(ctx, c.ID); end != nil {
		defer func() { end(err) }()
	}
	r, err = s.cluster.Propose(ctx, c)
	s.metrics.proposed(r, err, time.Since(start))
	err = overloaded(err)
	return r, err
}

// ProposeAll implements realtime.Node.
func (s store) ProposeAll(ctx context.Context, commands []*fsm.Command, told func(i int, r *fsm.Result, err error)) {
	start := time.Now()
	s.cluster.ProposeAll(ctx, commands, func(i int, r *fsm.Result, err error) {
		s.metrics.proposed(r, err, time.Since(start))
		told(i, r, overloaded(err))
	})
}

// overloaded adds the API's answer to a full queue. Nothing was done then, and
// the client may know that.
func overloaded(err error) error {
	if errors.Is(err, cluster.ErrOverloaded) {
		return fmt.Errorf("%w: %w", objects.ErrOverloaded, err)
	}
	return err
}

// Read implements api.Node.
func (s store) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	start := time.Now()
	v, err := s.cluster.Read(ctx, bucket)
	s.metrics.read(err, time.Since(start))
	if err == nil && !s.cluster.IsLeader() {
		s.limits.ChargeRead(bucket)
	}
	return v, overloaded(err)
}

// View implements api.Node.
func (s store) View() *fsm.View { return s.cluster.FSM().View() }

// Wait implements webhook.Node.
func (s store) Wait(ctx context.Context, index uint64) (*fsm.View, error) {
	return s.cluster.FSM().Wait(ctx, index)
}

// keyring is auth.Keyring over the replicated state.
type keyring struct{ view func() *fsm.View }

// Account implements auth.Keyring.
func (k keyring) Account() (sid string, tokens []string) {
	v := k.view()
	sid, _ = v.Account()
	return sid, v.AuthTokens()
}

// Key implements auth.Keyring.
func (k keyring) Key(keySID string) (auth.Key, bool) {
	sid, ok := objects.ParseSID(keySID)
	if !ok {
		return auth.Key{}, false
	}
	key, ok := k.view().Key(sid)
	if !ok {
		return auth.Key{}, false
	}
	return auth.Key{Secret: key.Secret, Scope: key.KeyScope}, true
}
