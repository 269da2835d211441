package harness

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/stretchr/testify/require"
)

// Favour puts the nodes, and other processes, before the test's own where they
// compete for the CPU: whoever loads or attacks a cluster has machines of its own,
// but shares this one with it. The test must be root's.
func (c *Cluster) Favour(others ...int) {
	c.t.Helper()
	const priority = -10
	for _, n := range c.Nodes {
		others = append(others, n.PID())
	}
	for _, pid := range others {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		require.NoError(c.t, err)
		for _, t := range threads { // those that they start take after them
			tid, err := strconv.Atoi(filepath.Base(t))
			require.NoError(c.t, err)
			err = syscall.Setpriority(syscall.PRIO_PROCESS, tid, priority)
			if err != nil && !errors.Is(err, syscall.ESRCH) {
				c.t.Fatalf("the nodes need priority over the test: run it as root: %v", err)
			}
		}
	}
}
