package cluster

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
)

const (
	// joinInterval is how often the seeds are tried again, so that two halves of a
	// cluster that started apart find each other.
	joinInterval = 10 * time.Second
	// reclaimTime is how long after its death a node may come back with another
	// address: almost at once. Zero would mean never.
	reclaimTime = time.Millisecond
	// seedTimeout bounds connecting to another node; Close may have to wait for it.
	seedTimeout = 3 * time.Second
	// leaveTimeout bounds telling the others that this node has left.
	leaveTimeout = 2 * time.Second
)

// gossipMeta is what a node tells the others of itself.
type gossipMeta struct {
	InternalAddr string `cbor:"1,keyasint"`
	HTTPURL      string `cbor:"2,keyasint,omitempty"`
	Version      string `cbor:"3,keyasint,omitempty"`
	AdminURL     string `cbor:"4,keyasint,omitempty"`
}

// gossip finds nodes and spreads their addresses. It decides nothing: only
// raft's configuration says which servers vote.
type gossip struct {
	list       *memberlist.Memberlist
	port       *gossipPort
	keyring    *memberlist.Keyring
	roster     *roster
	advertised string
	log        *slog.Logger
	self       string
}

// startGossip opens the gossip port. It does not join other nodes yet.
func startGossip(c Config, keys [][32]byte, self, internalAddr string) (*gossip, error) {
	meta, err := encodeMeta(gossipMeta{InternalAddr: internalAddr, HTTPURL: c.HTTPURL, AdminURL: c.AdminURL, Version: c.Version})
	if err != nil {
		return nil, err
	}
	m := memberlist.DefaultLANConfig()
	secrets, err := gossipSecrets(keys, c.ClusterID)
	if err != nil {
		return nil, err
	}
	if m.Keyring, err = memberlist.NewKeyring(secrets, secrets[0]); err != nil {
		return nil, fmt.Errorf("make gossip keyring: %w", err)
	}
	m.Name = self // a replaced node and its successor are two
	m.Label = c.ClusterID
	m.AdvertisePort = 0 // the one that is bound
	if c.GossipAdvertise != "" {
		if m.AdvertiseAddr, m.AdvertisePort, err = splitHostPort(c.GossipAdvertise); err != nil {
			return nil, fmt.Errorf("gossip address to advertise: %w", err)
		}
	}
	port, err := openGossipPort(c.GossipAddr, c.Limits, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("listen on gossip port: %w", err)
	}
	m.Transport = port
	m.BindPort = port.port()
	m.DeadNodeReclaimTime = reclaimTime
	m.TCPTimeout = seedTimeout
	m.EnableCompression = false // packets are this small
	m.Logger = newGossipLogger(c.Logger)
	m.Delegate = metaDelegate(meta)
	m.Conflict = conflictDelegate{c.Logger}
	members := &roster{alive: make(map[string]gossipMeta)}
	m.Events = members
	list, err := memberlist.Create(m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), port.Shutdown())
	}
	return &gossip{list: list, port: port, keyring: m.Keyring, roster: members, advertised: list.LocalNode().Address(), log: c.Logger, self: self}, nil
}

// run joins the current seeds, again and again, until ctx ends.
func (g *gossip) run(ctx context.Context, seeds func() []string) {
	for {
		if s := seeds(); len(s) > 0 {
			if _, err := g.list.Join(s); err != nil {
				g.log.Warn("gossip seeds not reached", "error", err)
			}
		}
		select {
		case <-time.After(joinInterval):
		case <-ctx.Done():
			return
		}
	}
}

// lookup returns what a server told of itself, and whether it is alive.
func (g *gossip) lookup(server string) (gossipMeta, bool) { return g.roster.get(server) }

// addr is where other nodes find this one.
func (g *gossip) addr() string { return g.advertised }

// close ends gossip; a node that left says so, one that only stops does not.
func (g *gossip) close(left bool) error {
	var err error
	if left {
		err = g.list.Leave(leaveTimeout)
	}
	return errors.Join(err, g.list.Shutdown())
}

// use changes the cluster's keys: the first one encrypts, and all can decrypt.
func (g *gossip) use(keys [][32]byte, clusterID string) error {
	secrets, err := gossipSecrets(keys, clusterID)
	if err != nil {
		return err
	}
	for _, s := range secrets {
		if err := g.keyring.AddKey(s); err != nil {
			return err
		}
	}
	if err := g.keyring.UseKey(secrets[0]); err != nil {
		return err
	}
	for _, old := range slices.Clone(g.keyring.GetKeys()) {
		if !slices.ContainsFunc(secrets, func(s []byte) bool { return bytes.Equal(s, old) }) {
			if err := g.keyring.RemoveKey(old); err != nil {
				return err
			}
		}
	}
	return nil
}

// gossipSecrets derives gossip's encryption keys from the cluster's keys.
func gossipSecrets(keys [][32]byte, clusterID string) ([][]byte, error) {
	var secrets [][]byte
	for _, key := range keys {
		secret, err := hkdf.Key(sha256.New, key[:], []byte(clusterID), "lockstep gossip", 32)
		if err != nil {
			return nil, fmt.Errorf("derive gossip key: %w", err)
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func encodeMeta(m gossipMeta) ([]byte, error) {
	b, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode gossip data: %w", err)
	}
	if len(b) > memberlist.MetaMaxSize { // would panic later
		return nil, fmt.Errorf("addresses and version have %d bytes and must have at most %d", len(b), memberlist.MetaMaxSize)
	}
	return b, nil
}

func decodeMeta(b []byte) (gossipMeta, error) {
	var m gossipMeta
	err := cbor.Unmarshal(b, &m)
	return m, err
}

func splitHostPort(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port of %s: %w", addr, err)
	}
	return host, int(number), nil
}

// metaDelegate passes this node's data to memberlist. Its methods are called
// with memberlist's locks held and must not call back.
type metaDelegate []byte

// NodeMeta implements memberlist.Delegate.
func (d metaDelegate) NodeMeta(int) []byte { return d }

// NotifyMsg implements memberlist.Delegate.
func (d metaDelegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d metaDelegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d metaDelegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d metaDelegate) MergeRemoteState([]byte, bool) {}

// conflictDelegate is called about two processes of one server: it came back at
// another address before anybody missed it, or somebody runs a copy of a data
// directory.
type conflictDelegate struct{ log *slog.Logger }

// NotifyConflict implements memberlist.ConflictDelegate.
func (d conflictDelegate) NotifyConflict(existing, other *memberlist.Node) {
	d.log.Warn("a member gossips from two addresses: it has moved, or another process runs on a copy of its data directory", "server", existing.Name, "address", existing.Address(), "other", other.Address())
}

// roster holds the servers that are alive and what they told. memberlist
// changes the nodes that it hands out while others read them, so its callbacks
// copy what they see. It calls them with its locks held, and they must not call
// back.
type roster struct {
	mu    sync.Mutex
	alive map[string]gossipMeta
}

func (r *roster) get(id string) (gossipMeta, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, ok := r.alive[id]
	return m, ok
}

// NotifyJoin implements memberlist.EventDelegate.
func (r *roster) NotifyJoin(n *memberlist.Node) { r.NotifyUpdate(n) }

// NotifyUpdate implements memberlist.EventDelegate.
func (r *roster) NotifyUpdate(n *memberlist.Node) {
	m, err := decodeMeta(n.Meta)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive[n.Name] = m
}

// NotifyLeave implements memberlist.EventDelegate: it left, or is dead.
func (r *roster) NotifyLeave(n *memberlist.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.alive, n.Name)
}
