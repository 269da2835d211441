package objects

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsOfAKindAreNeverNil(t *testing.T) {
	for k := KindNone; k <= KindMessage+1; k++ {
		for name, of := range map[string]func(Kind) *Error{"gone": ErrGone, "item gone": ErrItemGone, "mismatch": ErrMismatch, "null": ErrNull} {
			require.NotNil(t, of(k), "%s: %v", name, k)
		}
	}
}
