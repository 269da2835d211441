package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
)

// unavailable is the one place where what went wrong below becomes the API's
// own answer, unless it is one already. The cause stays in the chain for the log.
func unavailable(answer *objects.Error, cause error) error {
	if _, ok := errors.AsType[*objects.Error](cause); ok {
		return cause
	}
	return fmt.Errorf("%w: %w", answer, cause)
}

var errReadUnavailable = objects.ErrUnavailable.With("No quorum could be reached in time")

// limited is how a refusal by a rate limit tells itself apart from a failure.
type limited interface{ RetryAfter() time.Duration }

// readFailure is what a failed read of a bucket answers.
func readFailure(bucket objects.Bucket, err error) error {
	var l limited
	if errors.As(err, &l) {
		wait := max(1, int((l.RetryAfter()+time.Second-1)/time.Second))
		return objects.ErrRate.With("Rate limit exceeded for %v", bucket).After(wait)
	}
	return unavailable(errReadUnavailable, err)
}

// Refuse returns the error with which an operation on an object ends whose
// parameters were found to be wrong: a service or an object that does not exist
// comes before its parameters, and so does the permission that the operation
// wants. With kind KindNone the operation is on the service itself, or on a
// collection of it.
//
// It asks nobody where the local view has what the operation is on. Where that
// does not, the caller pays for the look at the others as for any miss.
func (a *API) Refuse(ctx context.Context, c Caller, kind objects.Kind, ref fsm.Ref, want objects.Rights, refusal error) error {
	if kind == objects.KindNone {
		return a.refuseInService(ctx, c, refusal)
	}
	view := a.node.View()
	if _, err := findIn(view, c, kind, ref, want); err == nil {
		return refusal
	}
	view, err := a.read(ctx, c.misses(view))
	if err == nil {
		_, err = findIn(view, c, kind, ref, want)
	}
	if err == nil {
		return refusal
	}
	return err
}

func (a *API) refuseInService(ctx context.Context, c Caller, refusal error) error {
	if _, ok := a.node.View().Service(c.Service); ok {
		return refusal
	}
	if _, err := a.findService(ctx, c); err != nil {
		return err
	}
	return refusal
}
