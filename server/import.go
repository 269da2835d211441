package server

import (
	"context"
	"errors"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/transfer"
)

// differences are the words for what the store finds.
var differences = map[fsm.Difference]string{
	fsm.Same: "", fsm.Missing: admin.DifferenceMissing, fsm.Other: admin.DifferenceOther, fsm.Extra: admin.DifferenceExtra, fsm.Ahead: admin.DifferenceAhead,
}

// Import implements admin.Node.
func (o operator) Import(ctx context.Context, records []transfer.Record, compare bool) ([]admin.Outcome, error) {
	if len(records) == 0 || len(records) > fsm.MaxImported {
		return nil, objects.ErrParameter.With("An import has 1 to %d records", fsm.MaxImported)
	}
	outcomes := make([]admin.Outcome, len(records))
	var good []fsm.Imported
	var at []int // the place of each good one
	for i := range records {
		imported, err := imported(&records[i])
		if refused, ok := errors.AsType[*objects.Error](err); ok {
			outcomes[i] = refusedOutcome(refused)
			continue
		} else if err != nil {
			return nil, err
		}
		good, at = append(good, imported), append(at, i)
	}
	view, err := o.read(ctx)
	if err != nil {
		return nil, err
	}
	// What is there already needs no entry in the log. One record may be about what an
	// earlier one makes, so it is all or none.
	due := false
	for i := range good {
		found := view.Compare(&good[i])
		due = due || found != fsm.Same && found != fsm.Ahead
		if compare || found == fsm.Ahead { // which an import leaves as it is
			outcomes[at[i]].Difference = differences[found]
		}
	}
	if compare || !due {
		return outcomes, nil
	}
	ctx, cancel := context.WithTimeout(ctx, operatorTimeout)
	defer cancel()
	r, err := o.store.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.Import{Records: good}})
	if err != nil {
		return nil, refusal(err)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	for i := range r.Parts {
		switch part := &r.Parts[i]; {
		case part.Err != nil:
			outcomes[at[i]] = refusedOutcome(part.Err)
		case part.More:
			outcomes[at[i]].Difference = admin.DifferenceExtra
		case part.Object != nil:
			outcomes[at[i]].Difference = admin.DifferenceAhead
		}
	}
	return outcomes, nil
}

func imported(r *transfer.Record) (fsm.Imported, error) {
	p, err := r.Parse()
	return fsm.Imported{
		Of: p.Of, Service: p.Service, Object: p.Object, Item: p.Item, Permission: p.Permission,
		Whole: r.Items != nil, Remove: r.Remove,
	}, err
}

func refusedOutcome(e *objects.Error) admin.Outcome {
	return admin.Outcome{Code: e.Code, Message: e.Message}
}
