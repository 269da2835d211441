package server

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"time"

	"lockstep/server/nodedir"
)

// peersInterval is how often a node looks whether its notes of the others hold.
const peersInterval = 5 * time.Second

// notePeers keeps the URLs of the other members for operators in the node's record.
func (n *node) notePeers(ctx context.Context) {
	tick := time.NewTicker(peersInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var peers []string
		for _, x := range n.cluster.Members() {
			u := cmp.Or(x.AdminURL, x.HTTPURL)
			if x.ID != n.cluster.ID() && u != "" && !slices.Contains(peers, u) {
				peers = append(peers, u)
			}
		}
		if len(peers) == 0 || slices.Equal(peers, n.record.Copy().Peers) {
			continue // what gossip has not brought yet is no news
		}
		if err := n.record.Change(func(r *nodedir.Record) { r.Peers = peers }); err != nil {
			n.log.Warn("peers not noted", "error", err)
		}
	}
}

// reachableTimeout bounds finding out which members are there.
const reachableTimeout = 2 * time.Second

// reachable names the members that are there.
func (n *node) reachable() []string {
	ctx, cancel := context.WithTimeout(context.Background(), reachableTimeout)
	defer cancel()
	return n.cluster.Reachable(ctx)
}

// listeners returns host:port of what the members listen on, as far as this
// node knows it.
func (n *node) listeners() []string {
	addrs := append(n.record.Copy().Seeds, n.cluster.GossipAddr())
	for _, x := range n.cluster.Members() {
		addrs = append(addrs, x.InternalAddr)
		for _, text := range []string{x.HTTPURL, x.AdminURL} {
			if u, err := url.Parse(text); err == nil && u.Host != "" {
				addrs = append(addrs, u.Host)
			}
		}
	}
	return addrs
}
