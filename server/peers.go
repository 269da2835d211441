package server

import (
	"cmp"
	"context"
	"slices"
	"time"

	"lockstep/server/nodedir"
)

// peersInterval is how often a node looks whether its notes of the others hold.
const peersInterval = 5 * time.Second

// notePeers keeps the URLs of the other members for operators in the node's record.
func (m *member) notePeers(ctx context.Context) {
	tick := time.NewTicker(peersInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var peers []string
		for _, x := range m.node.Members() {
			u := cmp.Or(x.AdminURL, x.HTTPURL)
			if x.ID != m.node.ID() && u != "" && !slices.Contains(peers, u) {
				peers = append(peers, u)
			}
		}
		if len(peers) == 0 || slices.Equal(peers, m.record.Copy().Peers) {
			continue // what gossip has not brought yet is no news
		}
		if err := m.record.Change(func(r *nodedir.Record) { r.Peers = peers }); err != nil {
			m.log.Warn("peers not noted", "error", err)
		}
	}
}
