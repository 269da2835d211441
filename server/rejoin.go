package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/server/admin"
	"lockstep/server/nodedir"
)

// StateError is why a node cannot go on with the data that it has, and what
// mends that.
type StateError struct{ error }

// Unwrap returns the reason.
func (e StateError) Unwrap() error { return e.error }

// DiskError is that a write to the node's disk failed. Started again, the node goes
// on from what the disk has, if it takes writes again.
type DiskError struct{ error }

// Unwrap returns the reason.
func (e DiskError) Unwrap() error { return e.error }

func (s *Server) diskError(err error) error {
	return DiskError{fmt.Errorf("%w. What was acknowledged is with the other nodes. See to the disk of %s, then start this node again", err, s.config.DataDir)}
}

// stateError adds the mending command to a loss that the node does not mend
// itself.
func (s *Server) stateError(err error) error {
	switch {
	case errors.Is(err, fsm.ErrNewer):
		return StateError{fmt.Errorf("%w. Start the node with the release that it ran before, or a later one", err)}
	case !lost(err):
		return StateError{err}
	}
	return StateError{fmt.Errorf("%w. To have the node come back in its own place, with the data of the others: %s", err, s.comeBack())}
}

// comeBack is the command by which the node begins anew in its own place.
func (s *Server) comeBack() string {
	return "lockstep serve --data-dir " + s.config.DataDir + " --join URL_OF_ANOTHER_NODE --replace"
}

// lost reports whether what a node had on its disk is gone, cannot be trusted, led to
// another state than the others', or is of the past, so that it has to begin anew.
func lost(err error) bool {
	var recovered *cluster.RecoveredError
	return errors.As(err, &recovered) || errors.Is(err, cluster.ErrStateLost) || errors.Is(err, cluster.ErrDamaged) || errors.Is(err, cluster.ErrSnapshots) || errors.Is(err, cluster.ErrDiffers)
}

// outdated returns an error if the node was told that its cluster was recovered
// without it.
func outdated(r *nodedir.Record) error {
	if r.RecoveredAs == "" {
		return nil
	}
	return &cluster.RecoveredError{Cluster: r.ClusterID, As: r.RecoveredAs}
}

// failed is why the node must not go on. That its cluster was recovered without it
// is noted: it does not start again on what it has, whether or not anybody is
// there to tell it.
func (m *member) failed() error {
	err := m.node.Failure()
	var recovered *cluster.RecoveredError
	if errors.As(err, &recovered) {
		err = errors.Join(err, m.book.change(func(r *nodedir.Record) { r.RecoveredAs = recovered.As }))
	}
	if errors.Is(err, cluster.ErrDisk) {
		return m.diskError(err)
	}
	return m.stateError(err)
}

// openOrRejoin opens the node. One whose state is lost, and that was told so,
// joins anew in its own place: as another incarnation, without a vote until it
// has what the others have.
func (s *Server) openOrRejoin(ctx context.Context, r *nodedir.Record, admission admission, keep keepKeys) (*cluster.Node, error) {
	node, err := (*cluster.Node)(nil), outdated(r)
	if err == nil {
		node, err = s.open(ctx, r, admission, keep)
	}
	switch {
	case errors.Is(err, fsm.ErrNewer):
		return nil, s.stateError(err)
	case errors.Is(err, cluster.ErrDisk):
		return nil, s.diskError(err)
	case !lost(err):
		return node, err
	}
	if !s.config.Replace {
		return nil, s.stateError(err)
	}
	s.log.Error("joining anew in this node's own place", "through", s.config.Join, "reason", err)
	if err := s.rejoin(ctx, r, s.config.Join); err != nil {
		return nil, err
	}
	return s.open(ctx, r, admission, keep)
}

// rejoin puts what the node has of raft's state aside, once a member has told
// that it may come back.
func (s *Server) rejoin(ctx context.Context, r *nodedir.Record, through string) error {
	j := admin.Join{Member: through, AccountSID: r.AccountSID, AuthToken: r.AuthToken, Replace: true}
	if s.config.Account != (Account{}) {
		j.AccountSID, j.AuthToken = s.config.Account.SID, s.config.Account.AuthToken
	}
	e, err := s.askEnrolment(ctx, r.ID, j)
	if err != nil {
		return err
	}
	if err := cluster.PutAside(s.config.DataDir); err != nil {
		return err
	}
	return s.keepEnrolment(r, j, e)
}

// HasLeft reports whether the node of a data directory has left its cluster.
func HasLeft(dataDir string) bool { return cluster.HasLeft(dataDir) }

// peersInterval is how often a node looks whether its notes of the others hold.
const peersInterval = 5 * time.Second

// notePeers keeps the URLs of the other members for operators in the node's record.
func (m *member) notePeers(ctx context.Context) {
	tick := time.NewTicker(peersInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var peers []string
		for _, x := range m.node.Members() {
			u := cmp.Or(x.AdminURL, x.HTTPURL)
			if x.ID != m.node.ID() && u != "" && !slices.Contains(peers, u) {
				peers = append(peers, u)
			}
		}
		if len(peers) == 0 || slices.Equal(peers, m.book.copy().Peers) {
			continue // what gossip has not brought yet is no news
		}
		if err := m.book.change(func(r *nodedir.Record) { r.Peers = peers }); err != nil {
			m.log.Warn("peers not noted", "error", err)
		}
	}
}
