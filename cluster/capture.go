package cluster

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// Capture returns the whole state, with all that was acknowledged before the call,
// by whichever node. It fails as Read does.
func (n *Node) Capture(ctx context.Context) (*fsm.Capture, error) {
	if _, err := n.Read(ctx, objects.Bucket{}); err != nil {
		return nil, err
	}
	return n.fsm.Capture(), nil
}
