package server

import (
	"encoding/hex"
	"errors"

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
	for i, text := range append([]string{r.ClusterKey}, r.OtherKeys...) {
		var k [32]byte
		if n, err := hex.Decode(k[:], []byte(text)); err != nil || n != len(k) {
			return key, nil, errors.New("the cluster key in node.json is damaged")
		}
		if i == 0 {
			key = k
		} else {
			others = append(others, k)
		}
	}
	return key, others, nil
}
