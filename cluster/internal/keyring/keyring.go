// Package keyring holds the cluster's keys that a node accepts, and changes
// them while the cluster runs.
package keyring

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/member"
	"lockstep/cluster/internal/status"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// The cluster's key changes in three steps, each of which waits for every member:
//
//  1. The new key spreads: each member fetches it from another one over the
//     internal port, keeps it, and accepts it beside the old one.
//  2. It is used: each member shows it to the others, and still accepts the old one.
//  3. What is sealed with the old one (fsm.Sealed) is sealed anew, by the leader, and the
//     old one is forgotten.
//
// How far the change has come is part of the replicated state
// (fsm.KeyRotation), which names the key by a hash; the key itself travels over
// the internal port only. Each node takes its own steps; the leader says when a
// step is over. A member that is away holds the change up until it is back or
// removed, so that nobody is left outside with a key that the others have
// forgotten.

// Request asks a member for one of the cluster's keys.
type Request struct {
	ID fsm.KeyID `cbor:"1,keyasint"`
}

// Answer is the key.
type Answer struct {
	Key [32]byte `cbor:"1,keyasint"`
}

// Config is what a keyring needs. Every field is required.
type Config struct {
	Self    string // this server
	Store   *fsm.FSM
	Servers *member.Configuration
	Peers   wire.Caller
	Life    *lifetime.Lifetime
	Logger  *slog.Logger
	Leads   func() bool // this node leads, and its term has started
	Ready   <-chan struct{}
	Scale   func(time.Duration) time.Duration // multiplies time-outs and pauses

	Read    func(ctx context.Context) (*fsm.View, error)
	Propose func(ctx context.Context, c *fsm.Command) (*fsm.Result, error)

	// Exclusively runs a function while nothing else changes the membership.
	Exclusively func(ctx context.Context, f func() error) error

	// Use makes the node keep keys, and use them from now on; it shows the first
	// one.
	Use func(list [][32]byte) error
}

// interval is how often a node checks how far the change has come; scaled.
const interval = 250 * time.Millisecond

// errNoSuchKey says that none of the members that answer has the new cluster
// key.
var errNoSuchKey = errors.New("cluster: no member that answers has the new cluster key")

// Keyring holds the cluster's keys that this node accepts. It uses the first
// one.
type Keyring struct {
	Config
	step chan struct{} // one slot, taken while a step is being taken

	mu   sync.Mutex
	list [][32]byte
}

// All returns the keys; the first one is used.
func (k *Keyring) All() [][32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

func (k *Keyring) set(list [][32]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = list
}

// find returns a key by its name.
func (k *Keyring) find(id fsm.KeyID) (key [32]byte, ok bool) {
	for _, key := range k.All() {
		if fsm.KeyIDOf(key) == id {
			return key, true
		}
	}
	return key, false
}

// Rotation is how far a change of the cluster's key has come.
type Rotation struct {
	Stage   fsm.KeyStage // 0: none is under way
	Waiting []string     // ids of the nodes that it waits for
}

// Rotation returns how far a change of the cluster's key has come, as of a
// linearizable point.
func (k *Keyring) Rotation(ctx context.Context) (Rotation, error) {
	view, err := k.Read(ctx)
	if err != nil {
		return Rotation{}, err
	}
	r := view.KeyRotation()
	if r == nil {
		return Rotation{}, nil
	}
	rotation := Rotation{Stage: r.Stage}
	for _, s := range k.Servers.All() {
		if _, done := slices.BinarySearch(r.Done, string(s.ID)); !done {
			rotation.Waiting = append(rotation.Waiting, member.NodeOf(s.ID))
		}
	}
	return rotation, nil
}

// Rotate begins to change the cluster's key. A change that is under way goes
// on, unless this node does not have its key, which may be lost then.
func (k *Keyring) Rotate(ctx context.Context) error {
	select {
	case k.step <- struct{}{}:
		defer func() { <-k.step }()
	case <-ctx.Done():
		return ctx.Err()
	}
	view, err := k.Read(ctx)
	if err != nil {
		return err
	}
	if r := view.KeyRotation(); r != nil {
		if _, have := k.find(r.Key); have || r.Stage == fsm.KeyUsed {
			return nil
		}
	}
	var key [32]byte
	rand.Read(key[:]) // never fails
	if err := k.use(append(k.All(), key)); err != nil {
		return err
	}
	result, err := k.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.RotateKey{Key: fsm.KeyIDOf(key)}})
	switch {
	case err != nil:
		return err
	case result.Err != nil:
		return result.Err
	}
	_, err = k.Store.Wait(ctx, result.Index) // before that the new key seems unused, and would be forgotten
	return err
}

// Follow takes this node's steps in a change of the cluster's key, and the
// leader's, until the node stops.
func (k *Keyring) Follow() {
	select {
	case <-k.Ready: // while the log is replayed, the view is of the past
	case <-k.Life.Context().Done():
		return
	}
	said := ""
	for k.Life.Context().Err() == nil {
		lifetime.Pause(k.Life.Context(), k.Scale(interval))
		if err := k.next(); err != nil && k.Life.Context().Err() == nil && err.Error() != said {
			said = err.Error()
			k.Logger.Warn("the change of the cluster's key does not go on", "error", err)
		}
	}
}

func (k *Keyring) next() error {
	select {
	case k.step <- struct{}{}:
		defer func() { <-k.step }()
	case <-k.Life.Context().Done():
		return k.Life.Context().Err()
	}
	view := k.Store.View()
	r := view.KeyRotation()
	if r == nil {
		return k.forget(view.ClusterKey())
	}
	if !k.Servers.Has(k.Self) {
		return nil
	}
	if err := k.take(r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(k.Life.Context(), lifetime.RequestTimeout)
	defer cancel()
	if _, done := slices.BinarySearch(r.Done, k.Self); !done {
		return k.tell(ctx, &fsm.ReachKeyStage{Key: r.Key, Stage: r.Stage, Server: k.Self})
	}
	if !k.Leads() {
		return nil
	}
	if r.Stage == fsm.KeyUsed { // before the old key is forgotten
		if done, err := k.sealAnew(ctx, r.Key); !done {
			return err
		}
	}
	return k.Exclusively(ctx, func() error { // nobody joins meanwhile
		for _, s := range k.Servers.All() {
			if _, done := slices.BinarySearch(r.Done, string(s.ID)); !done {
				return nil
			}
		}
		return k.tell(ctx, &fsm.AdvanceKey{Key: r.Key, Stage: r.Stage})
	})
}

func (k *Keyring) tell(ctx context.Context, op fsm.Op) error {
	_, err := k.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: op})
	return err
}

// take takes this node's steps up to the stage of a change.
func (k *Keyring) take(r *fsm.KeyRotation) error {
	list := k.All()
	key, have := k.find(r.Key)
	if !have {
		var err error
		if key, err = k.fetch(r.Key); err != nil {
			return err
		}
		list = append(list, key)
	}
	if r.Stage == fsm.KeyUsed && list[0] != key {
		old := slices.DeleteFunc(list, func(other [32]byte) bool { return other == key })
		list, have = append([][32]byte{key}, old...), false
	}
	if have {
		return nil
	}
	return k.use(list)
}

// forget drops all keys but the one that the last change led to.
func (k *Keyring) forget(current fsm.KeyID) error {
	key, have := k.find(current)
	if list := k.All(); !have || len(list) == 1 {
		return nil
	}
	k.Logger.Info("the cluster's key was changed; the old one is forgotten")
	return k.use([][32]byte{key})
}

// fetch asks the other members for a key.
func (k *Keyring) fetch(id fsm.KeyID) ([32]byte, error) {
	for _, s := range k.Servers.All() {
		if string(s.ID) == k.Self {
			continue
		}
		ctx, cancel := context.WithTimeout(k.Life.Context(), k.Scale(status.Timeout))
		a, err := wire.Ask[Answer](ctx, k.Peers, string(s.ID), wire.ClusterKey, Request{ID: id})
		cancel()
		if err == nil && fsm.KeyIDOf(a.Key) == id {
			return a.Key, nil
		}
	}
	return [32]byte{}, errNoSuchKey
}

// Answer answers a member that asks for a key.
func (k *Keyring) Answer(_ context.Context, _ string, r Request) (Answer, error) {
	key, ok := k.find(r.ID)
	if !ok {
		return Answer{}, errNoSuchKey
	}
	return Answer{Key: key}, nil
}

// New returns a node's keyring, which does nothing before Start.
func New(list [][32]byte) *Keyring {
	return &Keyring{step: make(chan struct{}, 1), list: list}
}

// Start sets what the keyring needs to change keys. It is called before all
// other methods but All.
func (k *Keyring) Start(config Config) { k.Config = config }

func (k *Keyring) use(list [][32]byte) error {
	if err := k.Use(list); err != nil {
		return err
	}
	k.set(list)
	return nil
}
