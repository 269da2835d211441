package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
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

// incarnationKey is where the stable store, which holds term and vote, keeps
// the incarnation: what loses the one loses the other.
var incarnationKey = []byte("Incarnation")

// incarnate finds the incarnation of a node's stores. New stores get one, unless
// the node had one before: then they are not new, but the old ones are lost.
func incarnate(stable raft.StableStore, expected string) (string, error) {
	b, err := stable.Get(incarnationKey)
	kept := string(b)
	switch {
	case err != nil && err.Error() != "not found": // as raft tells it
		return "", fmt.Errorf("read incarnation: %w", err)
	case kept == "" && expected != "":
		return "", fmt.Errorf("%w: log, term and vote are gone", ErrStateLost)
	case kept != "" && expected != "" && kept != expected:
		return "", fmt.Errorf("%w: log, term and vote are those of another incarnation", ErrStateLost)
	case kept != "":
		return kept, nil
	}
	made := make([]byte, 4)
	rand.Read(made) // never fails
	kept = hex.EncodeToString(made)
	if err := stable.Set(incarnationKey, []byte(kept)); err != nil {
		return "", fmt.Errorf("keep incarnation: %w", err)
	}
	return kept, nil
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
