package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// The names under which raft keeps its promises.
var (
	currentTermKey   = []byte("CurrentTerm")
	lastVoteTermKey  = []byte("LastVoteTerm")
	lastCandidateKey = []byte("LastVoteCand")
)

// checkedStable is a stable store that believes nothing that it reads: term,
// vote and the node's key are each kept with a checksum of name and value. A
// server with another term or vote than it had could elect two leaders in one
// term.
type checkedStable struct {
	raft.StableStore

	// damaged is told of a value that fails the check while raft runs.
	damaged func(error)
}

// Set implements raft.StableStore.
func (c *checkedStable) Set(key, value []byte) error {
	kept := append(make([]byte, 0, len(value)+crc32.Size), value...)
	return c.StableStore.Set(key, binary.LittleEndian.AppendUint32(kept, stableSum(key, value)))
}

// Get implements raft.StableStore.
func (c *checkedStable) Get(key []byte) ([]byte, error) {
	value, err := c.get(key)
	if errors.Is(err, ErrDamaged) && c.damaged != nil {
		c.damaged(err)
	}
	return value, err
}

// SetUint64 implements raft.StableStore.
func (c *checkedStable) SetUint64(key []byte, value uint64) error {
	return c.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (c *checkedStable) GetUint64(key []byte) (uint64, error) {
	value, err := c.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("%w: %s is not a number", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(value), nil
}

// get passes on what the store says of a value that is not there, since raft
// knows that by its words.
func (c *checkedStable) get(key []byte) ([]byte, error) {
	kept, err := c.StableStore.Get(key)
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	end := len(kept) - crc32.Size
	if end < 0 || binary.LittleEndian.Uint32(kept[end:]) != stableSum(key, kept[:end]) {
		return nil, fmt.Errorf("%w: %s does not match its checksum", ErrDamaged, key)
	}
	return kept[:end], nil
}

func stableSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// verify reads all that is kept, before anybody relies on it. lastTerm is the term of the
// last log entry, which the server's own cannot be behind.
func (c *checkedStable) verify(lastTerm uint64) error {
	for _, key := range [][]byte{nodeKey, lastCandidateKey} {
		if _, err := c.get(key); errors.Is(err, ErrDamaged) {
			return err
		}
	}
	voted, err := c.GetUint64(lastVoteTermKey)
	if errors.Is(err, ErrDamaged) {
		return err
	}
	term, err := c.GetUint64(currentTermKey) // none is an error, and a term of 0
	switch {
	case errors.Is(err, ErrDamaged):
		return err
	case term < voted:
		return fmt.Errorf("%w: the term is %d, and the node has voted in term %d", ErrDamaged, term, voted)
	case term < lastTerm:
		return fmt.Errorf("%w: the term is %d, and the log has an entry of term %d", ErrDamaged, term, lastTerm)
	}
	return nil
}
