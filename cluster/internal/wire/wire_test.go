package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFailuresKeepTheirKind(t *testing.T) {
	for _, kind := range failures[1:] {
		_, got := DecodeAnswer(Answer(nil, fmt.Errorf("while testing: %w", kind)))
		require.ErrorIs(t, got, kind)
		require.Equal(t, "while testing: "+kind.Error(), got.Error())
	}
	_, err := DecodeAnswer(Answer(nil, errors.New("odd")))
	require.ErrorIs(t, err, ErrRemote)
	_, err = DecodeAnswer([]byte{255, 'x'})
	require.ErrorIs(t, err, ErrRemote)
	_, err = DecodeAnswer(nil)
	require.ErrorIs(t, err, ErrRemote)
}
