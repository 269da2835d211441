package cluster

import (
	"context"

	"lockstep/cluster/internal/link"
)

// AwaitKnock listens at an internal address at which no node runs yet, until ctx
// ends, and returns where a member of whatever cluster came from that takes it for
// the address of another one; "" if none did.
func AwaitKnock(ctx context.Context, addr string) (from string, err error) {
	return link.AwaitKnock(ctx, addr)
}
