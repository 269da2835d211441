// Package floor measures the least that fan-out over websockets can cost.
package floor

import (
	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/internal/load"
)

// New returns the peer.
func New() peer.Peer {
	return (&peer.Broadcaster{
		Title: "floor", Kind: load.Text, Program: "floornode", Subscribe: "/ws", Publish: "/pub",
		Row:         "floor: a ready frame, all that waits in one write",
		Publication: func(int) []byte { return load.Stamped(load.Size) },
	}).Alone()
}
