package transport

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// answered is a request of a scripted pipeline.
type answered struct {
	raft.AppendFuture
	response raft.AppendEntriesResponse
}

// Response implements raft.AppendFuture.
func (a *answered) Response() *raft.AppendEntriesResponse { return &a.response }

// scripted is a pipeline as raft's: a request waits until the answer to the one
// before was taken.
type scripted struct {
	success []bool
	answers chan raft.AppendFuture
}

// AppendEntries implements raft.AppendPipeline.
func (s *scripted) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	a := &answered{response: raft.AppendEntriesResponse{Success: s.success[0]}}
	s.success = s.success[1:]
	s.answers <- a
	return a, nil
}

// Consumer implements raft.AppendPipeline.
func (s *scripted) Consumer() <-chan raft.AppendFuture { return s.answers }

// Close implements raft.AppendPipeline.
func (s *scripted) Close() error { return nil }

func TestPipelineEndsWithFirstRefusal(t *testing.T) {
	p := newPipeline(&scripted{success: []bool{true, false, true, true}, answers: make(chan raft.AppendFuture)})
	append := func() error {
		done := make(chan error, 1)
		go func() {
			_, err := p.AppendEntries(nil, nil)
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the sender waits for ever")
			return nil
		}
	}
	require.NoError(t, append())
	require.True(t, (<-p.Consumer()).Response().Success)
	require.NoError(t, append())
	require.False(t, (<-p.Consumer()).Response().Success)
	// The reader has gone. Nothing more is taken, and nobody waits.
	require.ErrorIs(t, append(), errPipelineBroken)
	require.ErrorIs(t, append(), errPipelineBroken)
	require.NoError(t, p.Close())
}
