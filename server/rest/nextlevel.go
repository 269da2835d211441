//go:build nextlevel

package rest

import (
	"context"
	"net/http"
)

// In a build with the tag nextlevel, which tests alone make, a POST to an object's
// permissions has the operation proposed that only this build knows.
func init() { endpoints.permissions.post = mark }

func mark(ctx context.Context, c *call) (answer, error) {
	return answer{status: http.StatusNoContent}, c.api.Mark(ctx, c.caller)
}
