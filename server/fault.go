package server

import (
	"context"
	"errors"
	"fmt"

	"lockstep/cluster"
	"lockstep/server/admin"
	"lockstep/server/nodedir"
)

// faultReason is what clients are told when this node's state may not be relied
// upon. The operator is told more.
const faultReason = "its state differs from that of other nodes"

// faulty reports whether this node's state may not be relied upon.
func (m *member) faulty() bool {
	_, fault := m.node.Fault()
	return fault != nil
}

// watchFault sends the connected clients to other nodes when this node's state may
// not be relied upon, and says what mends that.
func (m *member) watchFault(ctx context.Context) {
	for {
		changed, fault := m.node.Fault()
		if fault != nil {
			m.log.Error("clients are sent to other nodes", "reason", m.mending(fault))
			draining, cancel := context.WithTimeout(ctx, drainTime)
			m.realtime.Drain(draining)
			cancel()
		} else {
			m.realtime.Resume()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// failed is why the node must not go on. That its cluster was recovered without it
// is noted: it does not start again on what it has, whether or not anybody is
// there to tell it.
func (m *member) failed() error {
	err := m.node.Failure()
	var recovered *cluster.RecoveredError
	if errors.As(err, &recovered) {
		err = errors.Join(err, m.record.Change(func(r *nodedir.Record) { r.RecoveredAs = recovered.As }))
	}
	if errors.Is(err, cluster.ErrDisk) {
		return diskError(m.config.DataDir, err)
	}
	return stateError(m.config.DataDir, err)
}

// mending adds to a fault of the state what mends it.
func (m *member) mending(fault error) error {
	switch {
	case errors.Is(fault, cluster.ErrDiffers):
		return fmt.Errorf("%w. To mend it, stop this node and have it come back with the data of the others: %s", fault, comeBack(m.config.DataDir))
	case errors.Is(fault, cluster.ErrDisputed):
		return fmt.Errorf("%w. When the other nodes are back, a majority will. If there are none: lockstep verify shows who differs; lockstep leave ID takes out the node that is wrong", fault)
	}
	return fault
}

// Verify implements admin.Node.
func (o operator) Verify(ctx context.Context) (admin.Verification, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	v := o.node.Verify(ctx)
	out := admin.Verification{Index: v.Index, Equal: v.Equal, Nodes: make([]admin.NodeState, len(v.Nodes))}
	for i, n := range v.Nodes {
		out.Nodes[i] = admin.NodeState{ID: n.ID, Digest: digestText(n.Digest.Hash), Problem: n.Problem}
	}
	return out, nil
}

func digestText(hash uint64) string {
	if hash == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", hash)
}
