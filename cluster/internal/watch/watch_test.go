package watch

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValueShowsChanges(t *testing.T) {
	var v Value[int]
	_, changed := v.Get()
	v.Set(0)
	select {
	case <-changed:
		require.FailNow(t, "nothing changed")
	default:
	}
	v.Set(1)
	<-changed
	value, _ := v.Get()
	require.Equal(t, 1, value)
}
