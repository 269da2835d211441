package cluster

import (
	"context"
	"fmt"

	"lockstep/cluster/internal/keyring"
)

// KeyRotation is how far a change of the cluster's key has come.
type KeyRotation = keyring.Rotation

// KeyRotation returns how far a change of the cluster's key has come, as of a
// linearizable point.
func (n *Node) KeyRotation(ctx context.Context) (KeyRotation, error) { return n.keys.Rotation(ctx) }

// RotateKey begins to change the cluster's key. A change that is under way goes
// on, unless its key is one that this node has not got: that may be lost.
func (n *Node) RotateKey(ctx context.Context) error { return n.keys.Rotate(ctx) }

// useKeys keeps the cluster's keys and uses them from now on, the first one first.
func (n *Node) useKeys(list [][32]byte) error {
	if n.config.KeepKeys != nil {
		if err := n.config.KeepKeys(list[0], list[1:]); err != nil {
			return fmt.Errorf("keep cluster key: %w", err)
		}
	}
	if n.credential != nil {
		if err := n.credential.Use(list...); err != nil {
			return err
		}
	}
	if n.gossip != nil {
		if err := n.gossip.use(list, n.config.ClusterID); err != nil {
			return fmt.Errorf("change gossip key: %w", err)
		}
	}
	return nil
}
