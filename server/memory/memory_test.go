package memory

import (
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRuntimeKeepsToTheMemoryThereIs(t *testing.T) {
	require.Positive(t, Total())
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "off")
	LimitRuntime(slog.Default())
	require.Equal(t, before, debug.SetMemoryLimit(-1), "a limit of the user's stands")
	require.NoError(t, os.Unsetenv("GOMEMLIMIT"))
	LimitRuntime(slog.Default())
	limit := debug.SetMemoryLimit(-1)
	require.Less(t, limit, Total())
	require.Less(t, limit, int64(math.MaxInt64))
}
