// Package commandid makes the ids of commands. Chance is for those who propose: the
// store itself knows none.
package commandid

import (
	"crypto/rand"

	"lockstep/fsm"
)

// New makes a random id.
func New() fsm.CommandID {
	var id fsm.CommandID
	rand.Read(id[:]) // never fails
	return id
}
