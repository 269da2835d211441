package cluster

import (
	"context"
	"fmt"

	"lockstep/cluster/internal/keyring"
	"lockstep/fsm"
)

// KeyRotation is how far a change of the cluster's key has come.
type KeyRotation = keyring.Rotation

// KeyRotation returns how far a change of the cluster's key has come, as of a
// linearizable point.
func (n *Node) KeyRotation(ctx context.Context) (KeyRotation, error) { return n.keys.Rotation(ctx) }

// RotateKey begins to change the cluster's key. A change that is under way goes
// on, unless its key is one that this node has not got: that may be lost.
func (n *Node) RotateKey(ctx context.Context) error { return n.keys.Rotate(ctx) }

// Seal seals something with the cluster's key, for fsm.StoreSealed, under the name that
// it is to have.
func (n *Node) Seal(name string, plain []byte) (fsm.KeyID, []byte, error) {
	return n.keys.Seal(name, plain)
}

// Unseal returns what was sealed with one of the cluster's keys.
func (n *Node) Unseal(s *fsm.Sealed) ([]byte, error) { return n.keys.Unseal(s) }

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
