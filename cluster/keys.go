package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"lockstep/fsm"
	"lockstep/fsm/commandid"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/wire"
	"lockstep/objects"
)

// The cluster's key changes in three steps, each of which waits for every member:
//
//  1. The new key spreads: each member fetches it from another one over the
//     internal port, keeps it, and accepts it beside the old one.
//  2. It is used: each member shows it to the others, and accepts the old one.
//  3. The old one is forgotten.
//
// How far it has come is part of the replicated state (fsm.KeyRotation), which
// names the key by a hash; the key itself travels over the internal port only.
// Each node takes its own steps; the leader says when a step is over. A member
// that is away holds the change up until it is back or removed, so that nobody is
// left outside with a key that the others have forgotten.

// keyInterval is how often a node looks how far the change has come; scaled.
const keyInterval = 250 * time.Millisecond

// errNoSuchKey: none of the members that answer has the new cluster key.
var errNoSuchKey = errors.New("cluster: no member that answers has the new cluster key")

// keys are the cluster's keys that this node accepts; the first one it uses.
type keys struct {
	step chan struct{} // one slot, taken while a step is being taken

	mu   sync.Mutex
	list [][32]byte
}

func (k *keys) all() [][32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

func (k *keys) set(list [][32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = list
}

// find returns a key by its name.
func (k *keys) find(id fsm.KeyID) (key [32]byte, ok bool) {
	for _, key := range k.all() {
		if fsm.KeyIDOf(key) == id {
			return key, true
		}
	}
	return key, false
}

// KeyRotation is how far a change of the cluster's key has come.
type KeyRotation struct {
	Stage   fsm.KeyStage // 0: none is under way
	Waiting []string     // ids of the nodes that it waits for
}

// KeyRotation returns how far a change of the cluster's key has come, as of a
// linearizable point.
func (n *Node) KeyRotation(ctx context.Context) (KeyRotation, error) {
	view, err := n.Read(ctx, objects.Bucket{})
	if err != nil {
		return KeyRotation{}, err
	}
	r := view.KeyRotation()
	if r == nil {
		return KeyRotation{}, nil
	}
	status := KeyRotation{Stage: r.Stage}
	for _, s := range n.members.All() {
		if _, done := slices.BinarySearch(r.Done, string(s.ID)); !done {
			status.Waiting = append(status.Waiting, member.NodeOf(s.ID))
		}
	}
	return status, nil
}

// RotateKey begins to change the cluster's key. A change that is under way goes
// on, unless its key is one that this node has not got: that may be lost.
func (n *Node) RotateKey(ctx context.Context) error {
	select {
	case n.keys.step <- struct{}{}:
		defer func() { <-n.keys.step }()
	case <-ctx.Done():
		return ctx.Err()
	}
	view, err := n.Read(ctx, objects.Bucket{})
	if err != nil {
		return err
	}
	if r := view.KeyRotation(); r != nil {
		if _, have := n.keys.find(r.Key); have || r.Stage == fsm.KeyUsed {
			return nil
		}
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	if err := n.useKeys(append(n.keys.all(), key)); err != nil {
		return err
	}
	result, err := n.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.RotateKey{Key: fsm.KeyIDOf(key)}})
	switch {
	case err != nil:
		return err
	case result.Err != nil:
		return result.Err
	}
	_, err = n.fsm.Wait(ctx, result.Index) // before that the new key seems to be of no use
	return err
}

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
	n.keys.set(list)
	return nil
}

// followKeys takes this node's steps in a change of the cluster's key, and the
// leader's, until the node stops.
func (n *Node) followKeys() {
	select {
	case <-n.ready: // while the log is replayed, the view is of the past
	case <-n.life.Context().Done():
		return
	}
	said := ""
	for n.life.Context().Err() == nil {
		lifetime.Pause(n.life.Context(), n.config.scaled(keyInterval))
		if err := n.stepKeys(); err != nil && n.life.Context().Err() == nil && err.Error() != said {
			said = err.Error()
			n.config.Logger.Warn("the change of the cluster's key does not go on", "error", err)
		}
	}
}

func (n *Node) stepKeys() error {
	select {
	case n.keys.step <- struct{}{}:
		defer func() { <-n.keys.step }()
	case <-n.life.Context().Done():
		return n.life.Context().Err()
	}
	view := n.fsm.View()
	r := view.KeyRotation()
	if r == nil {
		return n.forgetKeys(view.ClusterKey())
	}
	if !n.members.Has(n.self) {
		return nil
	}
	if err := n.takeKey(r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(n.life.Context(), lifetime.RequestTimeout)
	defer cancel()
	if _, done := slices.BinarySearch(r.Done, n.self); !done {
		return n.tellKeys(ctx, &fsm.ReachKeyStage{Key: r.Key, Stage: r.Stage, Server: n.self})
	}
	if !n.IsLeader() {
		return nil
	}
	return n.changing(ctx, func() error { // nobody joins meanwhile
		for _, s := range n.members.All() {
			if _, done := slices.BinarySearch(r.Done, string(s.ID)); !done {
				return nil
			}
		}
		return n.tellKeys(ctx, &fsm.AdvanceKey{Key: r.Key, Stage: r.Stage})
	})
}

func (n *Node) tellKeys(ctx context.Context, op fsm.Op) error {
	_, err := n.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: op})
	return err
}

// takeKey makes this node come as far as the stage of a change.
func (n *Node) takeKey(r *fsm.KeyRotation) error {
	list := n.keys.all()
	key, have := n.keys.find(r.Key)
	if !have {
		var err error
		if key, err = n.fetchKey(r.Key); err != nil {
			return err
		}
		list = append(list, key)
	}
	if r.Stage == fsm.KeyUsed && list[0] != key {
		old := slices.DeleteFunc(list, func(k [32]byte) bool { return k == key })
		list, have = append([][32]byte{key}, old...), false
	}
	if have {
		return nil
	}
	return n.useKeys(list)
}

// forgetKeys leaves only the key that the last change has led to.
func (n *Node) forgetKeys(current fsm.KeyID) error {
	key, have := n.keys.find(current)
	if list := n.keys.all(); !have || len(list) == 1 {
		return nil
	}
	n.config.Logger.Info("the cluster's key was changed; the old one is forgotten")
	return n.useKeys([][32]byte{key})
}

// fetchKey asks the other members for a key.
func (n *Node) fetchKey(id fsm.KeyID) ([32]byte, error) {
	for _, s := range n.members.All() {
		if string(s.ID) == n.self {
			continue
		}
		ctx, cancel := context.WithTimeout(n.life.Context(), n.config.scaled(statusTimeout))
		a, err := wire.Ask[clusterKeyAnswer](ctx, n.peers, string(s.ID), wire.ClusterKey, clusterKeyRequest{ID: id})
		cancel()
		if err == nil && fsm.KeyIDOf(a.Key) == id {
			return a.Key, nil
		}
	}
	return [32]byte{}, errNoSuchKey
}

// answerClusterKey gives a member a key that this node has.
func (n *Node) answerClusterKey(id fsm.KeyID) (clusterKeyAnswer, error) {
	key, ok := n.keys.find(id)
	if !ok {
		return clusterKeyAnswer{}, errNoSuchKey
	}
	return clusterKeyAnswer{Key: key}, nil
}
