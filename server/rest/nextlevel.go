//go:build nextlevel

package rest

import "net/http"

// In a build with the tag nextlevel, which tests alone make, a POST to an object's
// permissions has the operation proposed that only this build knows.
func init() { endpoints.permissions.post = (*request).mark }

func (q *request) mark() (answer, error) {
	return answer{status: http.StatusNoContent}, q.api.Mark(q.ctx, q.caller)
}
