package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/link"
)

// A server, in raft's sense, is one life of a node: its id and the incarnation
// that was made up together with its log. A node that has lost its log has lost
// its promises, too: what it acknowledged, and whom it voted for. It comes back
// under the same node id, but as another server, which has no vote until it has
// caught up. Everything about votes and quorums goes by servers; people, client
// traffic and certificates see nodes.

// serverOf names an incarnation of a node in raft's configuration.
func serverOf(node, incarnation string) raft.ServerID {
	return raft.ServerID(node + "." + incarnation)
}

// nodeOf returns the id of the node that a server is an incarnation of.
func nodeOf(server raft.ServerID) string {
	if end := strings.LastIndexByte(string(server), '.'); end > 0 {
		return string(server[:end])
	}
	return string(server)
}

// nodeKey is where the stable store, which holds term and vote, keeps the node's
// own private key. Its name is the incarnation: what loses the one loses the
// other, and nobody can pass for a server whose key he does not have.
var nodeKey = []byte("NodeKey")

// incarnate finds the key and the incarnation of a node's stores. New stores get
// them, unless the node had some before: then they are not new, but the old ones
// are lost.
func incarnate(stable raft.StableStore, expected string) (ed25519.PrivateKey, string, error) {
	seed, err := storedSeed(stable)
	switch {
	case err != nil:
		return nil, "", err
	case seed == nil && expected != "":
		return nil, "", fmt.Errorf("%w: log, term and vote are gone", ErrStateLost)
	case seed == nil:
		seed = make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails
		if err := stable.Set(nodeKey, seed); err != nil {
			return nil, "", fmt.Errorf("keep node key: %w", err)
		}
	}
	key, incarnation := keyOf(seed)
	if expected != "" && incarnation != expected {
		return nil, "", fmt.Errorf("%w: log, term and vote are those of another incarnation", ErrStateLost)
	}
	return key, incarnation, nil
}

// incarnationOf returns the incarnation of a node's stores, which must have one.
func incarnationOf(stable raft.StableStore) (string, error) {
	seed, err := storedSeed(stable)
	if err == nil && seed == nil {
		err = fmt.Errorf("%w: log, term and vote are gone", ErrStateLost)
	}
	if err != nil {
		return "", err
	}
	_, incarnation := keyOf(seed)
	return incarnation, nil
}

// storedSeed reads what the node's key is made of; nil if there is none.
func storedSeed(stable raft.StableStore) ([]byte, error) {
	seed, err := stable.Get(nodeKey)
	switch {
	case err != nil && err.Error() != "not found": // as raft tells it
		return nil, fmt.Errorf("read node key: %w", err)
	case len(seed) == 0:
		return nil, nil
	case len(seed) != ed25519.SeedSize:
		return nil, errors.New("the node's key is damaged")
	}
	return seed, nil
}

func keyOf(seed []byte) (ed25519.PrivateKey, string) {
	key := ed25519.NewKeyFromSeed(seed)
	return key, link.IncarnationOf(key.Public().(ed25519.PublicKey))
}

// superseded reports whether a server is followed, in the order in which they
// were added, by a later incarnation of its node that the filter accepts.
func superseded(servers []raft.Server, id raft.ServerID, by func(raft.Server) bool) bool {
	at := slices.IndexFunc(servers, func(s raft.Server) bool { return s.ID == id })
	return at >= 0 && slices.ContainsFunc(servers[at+1:], func(s raft.Server) bool {
		return nodeOf(s.ID) == nodeOf(id) && by(s)
	})
}

// outOfReach is the address of a server whose own one its successor has taken.
// Nothing can be sent there.
func outOfReach(id raft.ServerID) raft.ServerAddress { return raft.ServerAddress("replaced/" + id) }
