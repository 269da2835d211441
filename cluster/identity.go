package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/link"
)

// nodeKey is where the stable store, which holds term and vote, keeps the node's
// own private key. Its name is the incarnation: what loses the one loses the
// other, and nobody can pass for a server whose key he does not have.
var nodeKey = []byte("NodeKey")

// incarnate finds the key and the incarnation of a node's stores. New stores get
// them, unless the node had some before: then they are not new, but the old ones
// are lost.
func incarnate(stable raft.StableStore, expected string) (ed25519.PrivateKey, string, error) {
	seed, err := storedSeed(stable)
	if err != nil {
		return nil, "", err
	}
	if seed == nil && expected == "" {
		seed = make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails
		if err := stable.Set(nodeKey, seed); err != nil {
			return nil, "", fmt.Errorf("keep node key: %w", err)
		}
	}
	return readIncarnation(stable, expected)
}

// readIncarnation is incarnate for stores that must not be new.
func readIncarnation(stable raft.StableStore, expected string) (ed25519.PrivateKey, string, error) {
	seed, err := storedSeed(stable)
	switch {
	case err != nil:
		return nil, "", err
	case seed == nil:
		return nil, "", fmt.Errorf("%w: log, term and vote are gone", ErrStateLost)
	}
	key := ed25519.NewKeyFromSeed(seed)
	incarnation := link.IncarnationOf(key.Public().(ed25519.PublicKey))
	if expected != "" && incarnation != expected {
		return nil, "", fmt.Errorf("%w: log, term and vote are those of another incarnation", ErrStateLost)
	}
	return key, incarnation, nil
}

// storedSeed reads what the node's key is made of; nil if there is none.
func storedSeed(stable raft.StableStore) ([]byte, error) {
	seed, err := storedValue(stable, nodeKey)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read node key: %w", err)
	case len(seed) != 0 && len(seed) != ed25519.SeedSize:
		return nil, fmt.Errorf("%w: the node's key has %d bytes", ErrDamaged, len(seed))
	}
	return seed, nil
}

// storedValue reads what the stable store keeps under a name; empty if there is nothing.
func storedValue(stable raft.StableStore, name []byte) ([]byte, error) {
	value, err := stable.Get(name)
	if err != nil && err.Error() == "not found" { // as raft tells it
		return nil, nil
	}
	return value, err
}
