package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/server/bounds"
	"lockstep/server/enrol"
	"lockstep/server/nodedir"
	"lockstep/server/trace"
)

// opener opens the node's part of its cluster.
type opener struct {
	config    Config
	enroller  enrol.Enroller
	admission admission
	record    *enrol.Record
	metrics   *metrics
	tracer    *trace.Tracer // nil: off
}

// openOrRejoin opens the node. One whose state is lost, and that was told so,
// joins anew in its own place: as another incarnation, without a vote until it
// has what the others have.
func (o opener) openOrRejoin(ctx context.Context, r *nodedir.Record) (*cluster.Node, error) {
	node, err := (*cluster.Node)(nil), enrol.Outdated(r)
	if err == nil {
		node, err = o.open(ctx, r)
	}
	switch {
	case errors.Is(err, fsm.ErrNewer):
		return nil, stateError(o.config.DataDir, err)
	case errors.Is(err, cluster.ErrDisk):
		return nil, diskError(o.config.DataDir, len(r.Peers) > 0, err)
	case !enrol.Lost(err):
		return node, err
	}
	if !o.config.Replace {
		return nil, stateError(o.config.DataDir, err)
	}
	o.config.Logger.Error("joining anew in this node's own place", "through", o.config.Join, "reason", err)
	if err := o.enroller.Rejoin(ctx, r); err != nil {
		return nil, err
	}
	return o.open(ctx, r)
}

// mostMoves is how often a node takes other ports during one start: each of its two
// may be taken, and once more between the choice and the start.
const mostMoves = 4

// open opens the node, elsewhere if somebody else has a port that it chose itself: while
// a node is down nothing keeps its ports for it.
func (o opener) open(ctx context.Context, r *nodedir.Record) (*cluster.Node, error) {
	for range mostMoves {
		node, err := o.openAt(ctx, r)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return node, err
		}
		left, moving := o.enroller.LeaveTakenPorts(r)
		if moving != nil || !left {
			return nil, errors.Join(err, moving)
		}
	}
	return o.openAt(ctx, r)
}

// openAt opens the node where its record says that it listens.
func (o opener) openAt(ctx context.Context, r *nodedir.Record) (*cluster.Node, error) {
	config, err := enrol.ClusterConfig(r)
	if err != nil {
		return nil, err
	}
	c := o.config
	config.DataDir, config.Version, config.TimeoutScale = c.DataDir, c.Version, c.TimeoutScale
	if c.Emulator != nil {
		config.InMemory, config.GossipAddr = true, "" // there is nobody to find
	}
	config.Nonvoter, config.Reserve = c.Nonvoter, c.Reserve
	config.Clock, config.Logger, config.Observe = c.Clock, c.Logger, o.metrics.observe
	if o.tracer != nil {
		config.Tracer = o.tracer
	}
	config.Seeds = append(config.Seeds, c.Seeds...)
	config.InternalAdvertise = c.advertised(r.InternalAddr)
	if config.GossipAdvertise, err = resolve(ctx, c.advertised(r.GossipAddr)); err != nil {
		return nil, err
	}
	config.SnapshotThreshold, config.TrailingLogs, config.TrailingBytes = c.SnapshotThreshold, c.TrailingLogs, int64(c.Bounds.LogBytes)
	config.FeedBytes, config.Limits = int64(c.Bounds.FeedBytes), clusterLimits(c.Bounds)
	config.Admit, config.AdmitReads = o.admission.admit, o.admission.limits.AdmitReads
	config.DiskShort, config.DisksFull = o.admission.room.short, o.admission.room.told
	config.KeepKeys = o.record.KeepKeys
	node, err := cluster.Open(ctx, config)
	if r.Bootstrap && errors.Is(err, cluster.ErrHasState) {
		// An earlier start made the cluster and came no further.
		config.Bootstrap = false
		node, err = cluster.Open(ctx, config)
	}
	return node, err
}

// resolve turns the name in host:port into an address: gossip knows no names.
func resolve(ctx context.Context, addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return addr, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("look up %s: %w", host, err)
	}
	return net.JoinHostPort(found[0].Unmap().String(), port), nil
}

// clusterLimits returns the bounds of the ports for other nodes.
func clusterLimits(b bounds.Bounds) cluster.Limits {
	return cluster.Limits{
		InternalStrangers: b.InternalStrangers, InternalStrangersPerSource: b.InternalStrangersPerSource,
		InternalMembers: b.InternalMembers, InternalPerMember: b.InternalPerMember,
		GossipStreams: b.GossipStreams, GossipStreamsPerSource: b.GossipStreamsPerSource,
		GossipStreamBytes: int64(b.GossipStreamBytes), GossipPackets: b.GossipPackets,
	}
}
