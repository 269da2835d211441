package api

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
)

// propose has one operation decided on behalf of a caller.
func (a *API) propose(ctx context.Context, c Caller, op fsm.Op) (*fsm.Result, error) {
	if c.Part != nil {
		return c.Part.decided(op)
	}
	service, err := a.ServiceSID(ctx, c.Service)
	if err != nil {
		return nil, err
	}
	return a.proposeIn(ctx, c, service, op)
}

func (a *API) proposeIn(ctx context.Context, c Caller, service objects.SID, op fsm.Op) (*fsm.Result, error) {
	result, err := a.decide(ctx, c, service, op)
	if err != nil {
		return nil, err
	}
	if result.Err != nil {
		return nil, result.Err
	}
	return result, nil
}

// decide returns the result of an operation, which may be a refusal.
func (a *API) decide(ctx context.Context, c Caller, service objects.SID, op fsm.Op) (*fsm.Result, error) {
	command := &fsm.Command{
		ID: c.commandID(service), ClientChosen: c.Key != "", Fingerprint: c.Fingerprint,
		Actor: c.Actor, Service: service, Op: op,
	}
	propose := a.node.Propose
	if c.Propose != nil {
		propose = c.Propose
	}
	result, err := propose(ctx, command)
	if err != nil {
		return nil, unavailable(objects.ErrUnavailable, err)
	}
	return result, nil
}

// commandID makes the id of a caller's write. The id of a keyed one follows
// from the key, so that its repetition is the same command on every node.
func (c *Caller) commandID(service objects.SID) fsm.CommandID {
	if c.Key == "" {
		return commandid.New()
	}
	var buffer [256]byte
	b := binary.AppendUvarint(buffer[:0], uint64(len(c.Scope)))
	b = append(b, c.Scope...)
	b = append(b, service[:]...)
	b = append(b, c.Key...)
	sum := sha256.Sum256(b)
	return fsm.CommandID(sum[:len(fsm.CommandID{})])
}

// ServiceSID finds out which service a write is for. A SID is taken as it is,
// since applying the command looks it up. A unique name never changes its
// service, so the local view's answer holds, if it has one.
func (a *API) ServiceSID(ctx context.Context, ref fsm.Ref) (objects.SID, error) {
	if !ref.SID.IsZero() {
		return ref.SID, nil
	}
	if s, ok := a.node.View().Service(ref); ok {
		return s.SID, nil
	}
	found, err := a.findService(ctx, Caller{Service: ref})
	if err != nil {
		return objects.SID{}, err
	}
	return found.Service.SID, nil
}

// random returns what a new SID is made of.
func random() [16]byte { return commandid.New() }

// withData returns a copy of an object with the data that its result left out.
func withData(o *objects.Object, data []byte) *objects.Object {
	full := *o
	full.Data = data
	return &full
}
