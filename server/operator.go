package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/auth"
	"lockstep/server/enrol"
)

// operator is admin.Node: what an operator asks of the node and of its cluster.
type operator struct {
	cluster *cluster.Node
	store   store
	record  *enrol.Record

	gossipAddr string                      // by which others reach this node's gossip
	ready      func() error                // why clients are not served, if they are not
	notes      []func() string             // what to look after all the same; "": nothing
	leave      func(context.Context) error // the cluster
	backup     func(context.Context) (admin.Backup, error)
}

// operatorTimeout bounds an operator's request to the cluster.
const operatorTimeout = 20 * time.Second

// Ready implements admin.Node.
func (o operator) Ready() error { return o.ready() }

// Notes implements admin.Node.
func (o operator) Notes() []string {
	var notes []string
	for _, note := range o.notes {
		if text := note(); text != "" {
			notes = append(notes, text)
		}
	}
	return notes
}

// Status implements admin.Node.
func (o operator) Status(ctx context.Context) (admin.Status, error) {
	s := o.cluster.Status(ctx)
	out := admin.Status{ClusterID: s.ClusterID, Nodes: make([]admin.NodeStatus, len(s.Nodes))}
	for i, n := range s.Nodes {
		out.Nodes[i] = admin.NodeStatus{
			ID: n.ID, HTTP: n.HTTP, Raft: n.Raft, Role: string(n.Role), AppliedIndex: n.AppliedIndex, Version: n.Version,
			Server: n.Server, DigestIndex: n.Digest.Index, Digest: digestText(n.Digest.Hash), Problem: n.Problem,
			Voter: n.Voter, Nonvoter: n.Nonvoter, ReserveSeconds: n.Reserve.Seconds(), FormatLevel: uint32(n.Level), NewestLevel: uint32(n.Newest),
		}
	}
	return out, nil
}

// Verify implements admin.Node.
func (o operator) Verify(ctx context.Context) (admin.Verification, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	v := o.cluster.Verify(ctx)
	out := admin.Verification{Index: v.Index, Equal: v.Equal, Nodes: make([]admin.NodeState, len(v.Nodes))}
	for i, n := range v.Nodes {
		out.Nodes[i] = admin.NodeState{ID: n.ID, Digest: digestText(n.Digest.Hash), Problem: n.Problem}
	}
	return out, nil
}

func digestText(hash uint64) string {
	if hash == 0 {
		return ""
	}
	return fmt.Sprintf("%016x", hash)
}

// Enrolment implements admin.Node.
func (o operator) Enrolment(_ context.Context, e admin.Enrol) (admin.Enrolment, error) {
	if !e.Replace && slices.ContainsFunc(o.cluster.Members(), func(m cluster.Member) bool { return m.ID == e.ID }) {
		return admin.Enrolment{}, refusal(fmt.Errorf("%w: %s", cluster.ErrKnownMember, e.ID))
	}
	r := o.record.Copy()
	seeds := append([]string{o.gossipAddr}, r.Seeds...)
	enrolment := admin.Enrolment{ClusterID: r.ClusterID, ClusterKey: r.ClusterKey, OtherKeys: r.OtherKeys, Seeds: seeds, Members: o.cluster.Servers()}
	for _, f := range r.Former {
		enrolment.Former = append(enrolment.Former, admin.Former(f))
	}
	return enrolment, nil
}

// RotateKey implements admin.Node.
func (o operator) RotateKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	return refusal(o.cluster.RotateKey(ctx))
}

// KeyRotation implements admin.Node.
func (o operator) KeyRotation(ctx context.Context) (admin.KeyRotation, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	r, err := o.cluster.KeyRotation(ctx)
	stage := admin.KeyStageNone
	switch r.Stage {
	case fsm.KeySpreads:
		stage = admin.KeyStageSpreads
	case fsm.KeyUsed:
		stage = admin.KeyStageUsed
	}
	return admin.KeyRotation{Stage: stage, Waiting: append([]string{}, r.Waiting...)}, refusal(err)
}

// AddMember implements admin.Node.
func (o operator) AddMember(ctx context.Context, m admin.Member) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	err := o.cluster.AddMember(ctx, cluster.MemberSpec{ID: m.ID, InternalAddr: m.Raft, HTTPURL: m.HTTP, Version: m.Version, Replace: m.Replace})
	if err != nil {
		return refusal(err)
	}
	return o.record.AddSeed(m.Gossip)
}

// RemoveMember implements admin.Node.
func (o operator) RemoveMember(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	return refusal(o.cluster.RemoveMember(ctx, id))
}

// Leave implements admin.Node.
func (o operator) Leave(ctx context.Context) error {
	// The operator may hang up; a departure that has begun is finished.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), operatorTimeout)
	defer cancel()
	return refusal(o.leave(ctx))
}

// Snapshot implements admin.Node.
func (o operator) Snapshot(ctx context.Context) error { return refusal(o.cluster.Snapshot(ctx)) }

// Backup implements admin.Node.
func (o operator) Backup(ctx context.Context) (admin.Backup, error) { return o.backup(ctx) }

// CreateKey implements admin.Node.
func (o operator) CreateKey(ctx context.Context, k admin.NewKey) (admin.Key, error) {
	op := &fsm.CreateKey{SID: objects.NewSID(objects.KindKey, commandid.New()), Secret: auth.NewSecret(), FriendlyName: k.FriendlyName}
	op.Scope.SignOnly, op.Scope.ReadOnly = k.SignOnly, k.ReadOnly
	var err error
	if op.Scope.Role, err = objects.ParseRole(k.Role); err != nil {
		return admin.Key{}, err
	}
	if k.Service != "" {
		view, err := o.read(ctx)
		if err != nil {
			return admin.Key{}, err
		}
		s, ok := view.Service(fsm.ParseRef(k.Service))
		if !ok {
			return admin.Key{}, objects.ErrServiceGone
		}
		op.Scope.Service = s.SID
	}
	if err := op.Scope.Validate(); err != nil {
		return admin.Key{}, err
	}
	if err := o.decide(ctx, op); err != nil {
		return admin.Key{}, err
	}
	view, err := o.read(ctx)
	if err != nil {
		return admin.Key{}, err
	}
	created, ok := view.Key(op.SID)
	if !ok {
		return admin.Key{}, objects.ErrNotFound // revoked in the meantime
	}
	resource := keyResource(created)
	resource.Secret = op.Secret
	return resource, nil
}

// Keys implements admin.Node.
func (o operator) Keys(ctx context.Context) ([]admin.Key, error) {
	view, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	keys := []admin.Key{}
	for _, k := range view.Keys() {
		keys = append(keys, keyResource(k))
	}
	return keys, nil
}

func keyResource(k *objects.APIKey) admin.Key {
	r := admin.Key{
		SID: k.SID.String(), FriendlyName: k.FriendlyName,
		DateCreated: time.UnixMilli(k.Created).UTC().Format(time.RFC3339),
		KeyScope:    admin.KeyScope{SignOnly: k.SignOnly, ReadOnly: k.ReadOnly},
	}
	if !k.Service.IsZero() {
		r.Service = k.Service.String()
	}
	if k.Role != objects.RoleData {
		r.Role = k.Role.String()
	}
	return r
}

// RevokeKey implements admin.Node.
func (o operator) RevokeKey(ctx context.Context, sid objects.SID) error {
	return o.decide(ctx, &fsm.RevokeKey{SID: sid})
}

// AddAuthToken implements admin.Node.
func (o operator) AddAuthToken(ctx context.Context) (string, error) {
	token := auth.NewSecret()
	return token, o.decide(ctx, &fsm.AddAuthToken{Token: token})
}

// PromoteAuthToken implements admin.Node.
func (o operator) PromoteAuthToken(ctx context.Context) error {
	return o.decide(ctx, &fsm.PromoteAuthToken{})
}

// DropAuthToken implements admin.Node.
func (o operator) DropAuthToken(ctx context.Context) error {
	return o.decide(ctx, &fsm.DropAuthToken{})
}

func (o operator) decide(ctx context.Context, op fsm.Op) error {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	r, err := o.store.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: op})
	if err != nil {
		return refusal(err)
	}
	if r.Err != nil {
		return r.Err
	}
	return nil
}

func (o operator) read(ctx context.Context) (*fsm.View, error) {
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	v, err := o.cluster.Read(ctx, objects.Bucket{})
	return v, refusal(err)
}

// refusal returns the operator's view of an error of the cluster.
func refusal(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrUnknownMember):
		return objects.ErrNotFound.With("%v", err)
	case errors.Is(err, cluster.ErrKnownMember):
		return conflict("%v: join with --replace to put the new one in its place, or take it out with lockstep leave first", err)
	case errors.Is(err, cluster.ErrTwice):
		return conflict("%v", err)
	case errors.Is(err, cluster.ErrAddressTaken), errors.Is(err, cluster.ErrQuorum), errors.Is(err, cluster.ErrOldRelease):
		return conflict("%v", err)
	}
	return objects.ErrUnavailable.With("%v", err)
}

func conflict(format string, args ...any) error {
	return &objects.Error{Code: objects.ErrParameter.Code, Status: 409, Message: fmt.Sprintf(format, args...)}
}
