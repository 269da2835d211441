// Package protocol checks the protocols that this product adds to raft, by going
// through every state that a small cluster can be in: the read index, the takeover
// after a leader's death, and the nudge. Each is modelled in a page, with one rule
// of its own in one place; that a rule is needed is shown by leaving it out, and
// finding the steps that lead to what it prevents.
//
// The models are bounded: three nodes, a few terms and entries. Messages may be as
// late as they like.
package protocol

import (
	"fmt"
	"strings"
)

// Model is a protocol: where it begins, what can happen, and what must not.
type Model[S comparable] struct {
	Start S

	// Next calls step with each state that can follow.
	Next func(s S, step func(what string, next S))

	// Wrong says what is wrong with a state; nothing if it is right.
	Wrong func(S) string
}

// maxStates bounds the search: a model that has more is too large.
const maxStates = 4_000_000

// Explore visits every state that a model can reach, the nearest ones first, and
// returns how many there are. The error names the shortest way to a wrong one.
func Explore[S comparable](m Model[S]) (states int, err error) {
	type origin struct {
		from S
		what string
	}
	seen := map[S]origin{m.Start: {}}
	queue := []S{m.Start}
	for len(queue) > 0 && err == nil {
		s := queue[0]
		queue = queue[1:]
		m.Next(s, func(what string, next S) {
			if _, known := seen[next]; known || err != nil {
				return
			}
			seen[next] = origin{s, what}
			queue = append(queue, next)
			if wrong := m.Wrong(next); wrong != "" {
				var way []string
				for at := next; at != m.Start; at = seen[at].from {
					way = append([]string{seen[at].what}, way...)
				}
				err = fmt.Errorf("%s, after: %s", wrong, strings.Join(way, "; "))
			}
		})
		if len(seen) > maxStates {
			return len(seen), fmt.Errorf("more than %d states", maxStates)
		}
	}
	return len(seen), err
}
