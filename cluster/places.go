package cluster

import (
	"maps"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/membership"
)

// Where a server is, raft's configuration says as of when the server was added
// or last announced another address. All addresses may change while the cluster
// is down, and without a leader nothing can be announced. So everybody is called
// by server id, and looked for at every address that is known of it. Who it is,
// its certificate proves.

// maxPlaces bounds for how many servers addresses are remembered.
const maxPlaces = 64

// find returns the addresses at which a server may be: by the configuration, as
// it said itself when it connected last, and as gossip has it. The configuration
// comes first, since a copy of a member's data directory tells its own address
// just as well; it is refused one in the configuration while the member answers.
func (n *Node) find(server string) []string {
	var addrs []string
	add := func(addr string) {
		if addr != "" && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if server == n.self {
		add(n.peers.Addr())
	}
	for _, s := range n.members.All() {
		if string(s.ID) == server && s.Address != membership.Nowhere(s.ID) {
			add(string(s.Address))
		}
	}
	add(n.places.get(server))
	if n.gossip != nil {
		meta, _ := n.gossip.lookup(server)
		add(meta.InternalAddr)
	}
	return addrs
}

// met notes where a server that connected can be found, if it is a member or on
// the way to be known as one.
func (n *Node) met(server, addr string) {
	members := n.Servers()
	if slices.Contains(members, server) || n.admission.Vouched(server) || len(members) == 0 && n.admission.EnrolledWith(server) {
		n.places.note(server, addr, members)
	}
}

// gossipSeeds returns where gossip looks for the others: where the node was told,
// and where members say that it does not see.
func (n *Node) gossipSeeds() []string {
	seeds := slices.Clone(n.config.Seeds)
	unseen := slices.DeleteFunc(slices.Clone(n.members.All()), func(s raft.Server) bool {
		_, seen := n.gossip.lookup(string(s.ID))
		return seen
	})
	for _, r := range n.survey.Reports(n.life.Context(), unseen) {
		if r.Gossip != "" && !slices.Contains(seeds, r.Gossip) {
			seeds = append(seeds, r.Gossip)
		}
	}
	return seeds
}

// byID has raft's transport call servers by their ids in place of addresses.
type byID struct{}

// ServerAddr implements raft.ServerAddressProvider.
func (byID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// places are where servers said that they can be found.
type places struct {
	mu    sync.Mutex
	addrs map[string]string
}

// note remembers an address. When there are too many, those of servers that are
// no members are forgotten, and else the new one is.
func (p *places) note(server, addr string, members []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addrs == nil {
		p.addrs = make(map[string]string)
	}
	if _, known := p.addrs[server]; !known && len(p.addrs) >= maxPlaces {
		maps.DeleteFunc(p.addrs, func(s, _ string) bool { return !slices.Contains(members, s) })
		if len(p.addrs) >= maxPlaces {
			return
		}
	}
	p.addrs[server] = addr
}

func (p *places) get(server string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrs[server]
}
