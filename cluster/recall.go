package cluster

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"lockstep/cluster/internal/recall"
	"lockstep/cluster/internal/wire"
)

// toldKey is where the stable store keeps what other members told of themselves.
var toldKey = []byte("Told")

// newRecall returns this server's part in finding copies of before. It looks at
// what the disk has, before raft adds to it.
func (n *Node) newRecall() (*recall.Recall, error) {
	start, err := n.stores.extent()
	if err != nil {
		return nil, err
	}
	told := map[string]recall.Told{}
	kept, err := n.stores.stable.Get(toldKey)
	switch {
	case errors.Is(err, ErrDamaged):
		return nil, err
	case err == nil && len(kept) > 0: // that there is nothing is an error to some stores
		if err := cbor.Unmarshal(kept, &told); err != nil {
			return nil, fmt.Errorf("%w: what other members told: %w", ErrDamaged, err)
		}
	}
	return recall.New(recall.Config{
		Self: n.self, Process: n.process, Start: start, Servers: &n.members, Peers: func() wire.Caller { return n.peers },
		Life: n.life, Scale: n.config.scaled, Logger: n.config.Logger,
		Save: func(told map[string]recall.Told) error {
			b, err := cbor.Marshal(told)
			if err != nil {
				return err
			}
			return n.stores.stable.Set(toldKey, b)
		},
		Lost: func(told, has recall.Extent) {
			err := fmt.Errorf("%w: it told another member that it had %v, and has %v", ErrOutdated, told, has)
			if marking := markOutdated(n.config); marking != nil {
				err = fmt.Errorf("%w (which could not be noted: %w)", err, marking)
			}
			n.fail(err)
		},
	}, told), nil
}

// extent returns how far what the stores have reaches.
func (s *stores) extent() (e recall.Extent, err error) {
	if e.Term, err = s.stable.GetUint64(currentTermKey); errors.Is(err, ErrDamaged) { // no term is an error, too
		return e, err
	}
	if e.Index, err = s.logs.LastIndex(); err != nil {
		return e, fmt.Errorf("read log: %w", err)
	}
	taken, err := s.snapshots.List()
	if err != nil {
		return e, fmt.Errorf("read snapshots: %w", err)
	}
	for _, meta := range taken {
		e.Index = max(e.Index, meta.Index)
	}
	return e, nil
}

// mayVote reports whether this server has a part in elections: it was added, and
// remembers all that it promised, as far as the others can tell.
func (n *Node) mayVote() bool { return n.added() && n.recall.Passed() }

// heard takes note of what another member says of itself.
func (n *Node) heard(other NodeStatus) {
	n.recall.Heard(other)
	n.refuseNewer(other)
}
