package validate

import (
	"fmt"
	"slices"
)

// Digest stands for a store as of a log index.
type Digest struct {
	Index uint64
	Hash  string
}

// Digests returns an error unless all nodes have one state. Theirs have to be
// digests as of one log index: others say nothing.
func Digests(nodes map[string]Digest) error {
	if len(nodes) < 2 {
		return fmt.Errorf("validate: digests of %d nodes cannot be compared", len(nodes))
	}
	var all []Digest
	for _, d := range nodes {
		all = append(all, d)
	}
	for _, d := range all[1:] {
		if d.Index != all[0].Index {
			return fmt.Errorf("validate: digests of different indexes cannot be compared: %v", describe(nodes))
		}
		if d.Hash != all[0].Hash {
			return fmt.Errorf("validate: the stores differ: %v", describe(nodes))
		}
	}
	return nil
}

func describe(nodes map[string]Digest) (all []string) {
	for node, d := range nodes {
		all = append(all, fmt.Sprintf("%s has %s at %d", node, d.Hash, d.Index))
	}
	slices.Sort(all)
	return all
}
