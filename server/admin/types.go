package admin

import "lockstep/objects"

// Status is the cluster as one node sees it.
type Status struct {
	ClusterID string       `json:"cluster_id"`
	Nodes     []NodeStatus `json:"nodes"`
}

// NodeStatus is one member.
type NodeStatus struct {
	ID           string `json:"id"`
	HTTP         string `json:"http"` // URL
	Raft         string `json:"raft"` // host:port of the internal port
	Role         string `json:"role"` // leader, follower, nonvoter or unreachable
	AppliedIndex uint64 `json:"applied_index"`
	Version      string `json:"version"`

	// Server is the id of this very incarnation of the node.
	Server string `json:"server"`

	// Digest stands for all that the node has applied up to DigestIndex; equal states
	// have equal ones. Empty before the first write.
	DigestIndex uint64 `json:"digest_index"`
	Digest      string `json:"digest"` // 16 hexadecimal digits

	Voter          bool    `json:"voter"`                     // by raft's configuration, whether it is reached or not
	Nonvoter       bool    `json:"nonvoter,omitempty"`        // it wants no vote
	ReserveSeconds float64 `json:"reserve_seconds,omitempty"` // of a voter's silence, after which it votes in its place

	FormatLevel uint32 `json:"format_level,omitempty"`        // the cluster's, as the node's state has it
	NewestLevel uint32 `json:"newest_format_level,omitempty"` // that the node's release knows

	Problem string `json:"problem,omitempty"` // why it does not serve, if it does not
}

// Votes reports whether the node was seen as a voter.
func (n NodeStatus) Votes() bool { return n.Role == RoleLeader || n.Role == RoleFollower }

// The roles of a member.
const (
	RoleLeader      = "leader"
	RoleFollower    = "follower"
	RoleNonvoter    = "nonvoter"
	RoleUnreachable = "unreachable"
)

// Servers returns the incarnations of the node with an id that are members: two
// while one is being replaced.
func (s Status) Servers(id string) []string {
	var servers []string
	for _, n := range s.Nodes {
		if n.ID == id {
			servers = append(servers, n.Server)
		}
	}
	return servers
}

// Verification is what comparing the states of all nodes, as of one log index, has
// found.
type Verification struct {
	Index uint64      `json:"index"`
	Equal bool        `json:"equal"` // all have answered, and have one state
	Nodes []NodeState `json:"nodes"`
}

// NodeState is one node's state in a Verification.
type NodeState struct {
	ID      string `json:"id"`
	Digest  string `json:"digest"`            // 16 hexadecimal digits; empty: none
	Problem string `json:"problem,omitempty"` // why it is not known to be that of the majority
}

// Find returns the member with an id.
func (s Status) Find(id string) (NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.ID == id {
			return n, true
		}
	}
	return NodeStatus{}, false
}

// Enrolment is what a node needs to become a peer. The key is the cluster's
// secret: a node that has it may connect to the internal port, and is answered
// there once it has been added.
type Enrolment struct {
	ClusterID  string   `json:"cluster_id"`
	ClusterKey string   `json:"cluster_key"`          // 64 hexadecimal digits
	OtherKeys  []string `json:"other_keys,omitempty"` // accepted, too, while the key is being changed
	Seeds      []string `json:"seeds"`                // gossip addresses
	Members    []string `json:"members"`              // servers that may add the node
	Former     []Former `json:"former,omitempty"`     // clusters that this one was before it was recovered
}

// Former is a cluster of the past, with the keys by which its members know each
// other, and the member that it was recovered from, with that one's own key.
type Former struct {
	ClusterID   string   `json:"cluster_id"`
	ClusterKeys []string `json:"cluster_keys"`
	NodeID      string   `json:"node_id"`
	NodeKey     string   `json:"node_key"`
}

// KeyRotation is how far a change of the cluster's key has come.
type KeyRotation struct {
	Stage   string   `json:"stage"`   // none, spreads or used
	Waiting []string `json:"waiting"` // ids of the nodes that it waits for
}

// The stages of a change of the cluster's key.
const (
	KeyStageNone    = "none"
	KeyStageSpreads = "spreads"
	KeyStageUsed    = "used"
)

// Member describes a node that asks to be added.
type Member struct {
	ID      string `json:"id"`
	Raft    string `json:"raft"`   // host:port of the internal port
	Gossip  string `json:"gossip"` // host:port
	HTTP    string `json:"http"`   // URL
	Version string `json:"version"`
	Replace bool   `json:"replace,omitempty"` // the member that has this id
}

// Enrol asks for enrolment. A node with the id of a member is refused unless it
// is to replace that member.
type Enrol struct {
	ID      string `json:"id"`
	Replace bool   `json:"replace,omitempty"`
}

// Join tells a waiting node through which member to join, and the account's
// credentials, which authorise it there.
type Join struct {
	Member     string `json:"member"` // URL
	AccountSID string `json:"account_sid"`
	AuthToken  string `json:"auth_token"`
	Replace    bool   `json:"replace,omitempty"`  // the member that has the node's id
	Insecure   bool   `json:"insecure,omitempty"` // over plain HTTP beyond this machine, too
}

// Joining is a waiting node's answer: it has enrolled and goes on by itself.
type Joining struct {
	ID string `json:"id"`
}

// Key is an API key.
type Key struct {
	SID          string `json:"sid"`
	FriendlyName string `json:"friendly_name"`
	DateCreated  string `json:"date_created"`
	Secret       string `json:"secret,omitempty"` // only in the answer to its creation

	KeyScope
}

// KeyScope is what an API key is restricted to; see objects.KeyScope.
type KeyScope struct {
	SignOnly bool   `json:"sign_only,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Service  string `json:"service,omitempty"` // its SID; in a request its unique name, too
	Role     string `json:"role,omitempty"`    // viewer or admin; empty: data
}

// May says in a few words what a key may do.
func (s KeyScope) May() string {
	may := "everything"
	switch {
	case s.SignOnly:
		may = "sign"
	case s.ReadOnly:
		may = "read"
	case s.Role == objects.RoleViewer.String():
		may = "see status"
	case s.Role == objects.RoleAdmin.String():
		may = "operate"
	}
	if s.Service != "" {
		may += " in " + s.Service
	}
	return may
}

// AuthToken is the account's second auth token, in the answer to its making.
type AuthToken struct {
	AuthToken string `json:"auth_token"`
}

// KeyList is all API keys.
type KeyList struct {
	Keys []Key `json:"keys"`
}

// NewKey asks for an API key.
type NewKey struct {
	FriendlyName string `json:"friendly_name"`

	KeyScope
}
