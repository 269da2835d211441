package server

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"

	"lockstep/cluster"
	"lockstep/server/nodedir"
)

// keepKeys is cluster.Config.KeepKeys.
type keepKeys func(key [32]byte, others [][32]byte) error

var errEarly = errors.New("the node's record is not complete yet")

// keepKeys returns what writes the cluster's keys into the record, from the
// moment on at which that is complete.
func (b *book) keepKeys(recorded <-chan struct{}) keepKeys {
	return func(key [32]byte, others [][32]byte) error {
		select {
		case <-recorded:
		default:
			return errEarly // it is tried again
		}
		return b.change(func(r *nodedir.Record) {
			r.ClusterKey, r.OtherKeys = hex.EncodeToString(key[:]), nil
			for _, k := range others {
				r.OtherKeys = append(r.OtherKeys, hex.EncodeToString(k[:]))
			}
		})
	}
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
