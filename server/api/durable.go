package api

import (
	"context"

	"lockstep/fsm"
	"lockstep/objects"
)

// DurableOpen is what a list is made of that is a durable stream, or has to be like.
type DurableOpen struct {
	ContentType string
	TTL         int64 // seconds after the last read or write; 0: that does not count
	Expires     int64 // Unix milliseconds; 0: never
	Closed      bool
	Items       [][]byte // JSON, as it is to be stored
}

// Opened is a list right after it was opened or written to as a durable stream.
type Opened struct {
	Object  *objects.Object
	Durable fsm.DurableResult
	Created bool
}

// OpenDurable makes a list that is a durable stream, unless there is one already that
// is the same but for its items.
func (a *API) OpenDurable(ctx context.Context, c Caller, ref fsm.Ref, open DurableOpen) (Opened, error) {
	if ref.SID.IsZero() {
		if err := objects.ValidateName(ref.Name); err != nil {
			return Opened{}, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
		}
	}
	if err := objects.ValidateTTL(open.TTL); err != nil {
		return Opened{}, a.Refuse(ctx, c, objects.KindNone, fsm.Ref{}, objects.Write, err)
	}
	return a.durable(ctx, c, &fsm.OpenDurable{
		List: ref, SID: objects.NewSID(objects.KindList, random()),
		ContentType: open.ContentType, TTL: open.TTL, Expires: open.Expires, Closed: open.Closed, Items: open.Items,
	})
}

// AppendDurable adds items at the end of a list as a durable stream, and may close it.
// Of what is refused, too, it returns what was found, if anything was.
func (a *API) AppendDurable(ctx context.Context, c Caller, op fsm.AppendDurable) (Opened, error) {
	return a.durable(ctx, c, &op)
}

func (a *API) durable(ctx context.Context, c Caller, op fsm.Op) (Opened, error) {
	service, err := a.ServiceSID(ctx, c.Service)
	if err != nil {
		return Opened{}, err
	}
	result, err := a.decide(ctx, c, service, op)
	if err != nil {
		return Opened{}, err
	}
	opened := Opened{Object: result.Object, Created: result.Created}
	if result.Durable != nil {
		opened.Durable = *result.Durable
	}
	if result.Err != nil {
		return opened, result.Err
	}
	return opened, nil
}

// TouchDurable notes that a list was read, if it expires some time after that. How long
// ago it was noted last, nobody knows here: the state's time stands still while nothing
// is written.
func (a *API) TouchDurable(ctx context.Context, c Caller, found Found) error {
	if found.View.Durable(found.Object).TTL == 0 {
		return nil
	}
	_, err := a.propose(ctx, c, &fsm.TouchDurable{List: found.Object.SID})
	return err
}
