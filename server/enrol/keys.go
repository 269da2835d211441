package enrol

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"slices"

	"lockstep/cluster"
	"lockstep/server/nodedir"
)

// ClusterConfig returns what the record says of the node's part of its cluster.
func ClusterConfig(r *nodedir.Record) (c cluster.Config, err error) {
	c = cluster.Config{
		ID: r.ID, Incarnation: r.Incarnation, ClusterID: r.ClusterID, Bootstrap: r.Bootstrap, Joining: r.JoinThrough != "",
		InternalAddr: r.InternalAddr, GossipAddr: r.GossipAddr, HTTPURL: r.HTTPURL, AdminURL: r.AdminURL,
		Seeds: slices.Clone(r.Seeds), Members: r.Members,
	}
	if c.Key, c.OtherKeys, err = clusterKeys(r); err != nil {
		return c, err
	}
	c.Past, err = pastClusters(r)
	return c, err
}

// clusterKeys reads the cluster's keys from the record: the one in use, and those
// that are accepted besides.
func clusterKeys(r *nodedir.Record) (key [32]byte, others [][32]byte, err error) {
	keys, err := parseKeys(append([]string{r.ClusterKey}, r.OtherKeys...))
	if err != nil {
		return key, nil, err
	}
	return keys[0], keys[1:], nil
}

// pastClusters reads those that the node's cluster was before it was recovered.
func pastClusters(r *nodedir.Record) ([]cluster.Past, error) {
	var pasts []cluster.Past
	for _, f := range r.Former {
		keys, err := parseKeys(append([]string{f.NodeKey}, f.ClusterKeys...))
		if err != nil {
			return nil, err
		}
		pasts = append(pasts, cluster.Past{ClusterID: f.ClusterID, Keys: keys[1:], Node: f.NodeID, NodeKey: ed25519.NewKeyFromSeed(keys[0][:])})
	}
	return pasts, nil
}

func parseKeys(texts []string) ([][32]byte, error) {
	keys := make([][32]byte, len(texts))
	for i, text := range texts {
		if n, err := hex.Decode(keys[i][:], []byte(text)); err != nil || n != len(keys[i]) {
			return nil, errors.New("a key in node.json is damaged")
		}
	}
	return keys, nil
}
