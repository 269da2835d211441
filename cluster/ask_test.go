package cluster

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMembersAskEachOther(t *testing.T) {
	t.Parallel()
	m := newMembers(t, 3, nil)
	asking := m.leader()
	_, err := asking.Ask(m.context(), asking.ID(), []byte("?"))
	require.Error(t, err, "nobody answers there yet")
	for _, n := range m.nodes {
		n.OnAsk(func(_ context.Context, question []byte) ([]byte, error) {
			return append([]byte(n.ID()+": "), question...), nil
		})
	}
	for _, n := range m.nodes {
		answer, err := asking.Ask(m.context(), n.ID(), []byte("?"))
		require.NoError(t, err)
		require.Equal(t, n.ID()+": ?", string(answer))
	}
	_, err = asking.Ask(m.context(), "nobody", nil)
	require.ErrorIs(t, err, ErrUnknownMember)
}
