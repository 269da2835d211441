package replica

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/lifetime"
	"lockstep/cluster/internal/wire"
	"lockstep/fsm"
)

// asked notes whom it is asked to call.
type asked chan string

func (a asked) Call(_ context.Context, to string, _ byte, _ []byte) ([]byte, error) {
	a <- to
	return nil, wire.ErrNotSent
}

// A member may be somewhere else than the configuration has it, and another one
// there: it is called by its id.
func TestMembersAreAskedByID(t *testing.T) {
	calls := make(asked, 1)
	r := New(Config{
		Self: "a.1", Store: fsm.New(fsm.Config{}), Peers: calls, Life: lifetime.New(),
		Scale: func(d time.Duration) time.Duration { return d }, Logger: slog.New(slog.DiscardHandler),
	})
	_, err := r.ask(t.Context(), raft.Server{ID: "b.1", Address: "10.0.0.1:7000"}, Request{}, time.Minute)
	require.ErrorIs(t, err, wire.ErrNotSent)
	require.Equal(t, "b.1", <-calls)
}
