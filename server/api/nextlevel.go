//go:build nextlevel

package api

import (
	"context"

	"lockstep/fsm"
)

// Mark has the operation proposed that only this build knows.
func (a *API) Mark(ctx context.Context, c Caller) error {
	_, err := a.propose(ctx, c, &fsm.Mark{})
	return err
}
