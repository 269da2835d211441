package harness

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	readsID       = "github.com/hashicorp/raft.updateLastAppended"
	writesAddress = "github.com/hashicorp/raft.(*Raft).startStopReplication"
)

// raceReport is a report as the race detector writes it.
func raceReport(first, function, second, otherFunction string) string {
	return fmt.Sprintf(`==================
WARNING: DATA RACE
%s at 0x00c000246698 by goroutine 146:
  %s()
      github.com/hashicorp/raft@v1.8.0/replication.go:660 +0xc9
  github.com/hashicorp/raft.(*Raft).replicateTo()
      github.com/hashicorp/raft@v1.8.0/replication.go:250 +0x4a4

%s at 0x00c000246698 by goroutine 50:
  %s()
      github.com/hashicorp/raft@v1.8.0/raft.go:625 +0x4c4

Goroutine 146 (running) created at:
  github.com/hashicorp/raft.(*raftState).goFunc()
      github.com/hashicorp/raft@v1.8.0/state.go:147 +0xdc
==================
`, first, function, second, otherFunction)
}

func TestOnlyTheLibrarysOwnRaceIsAccepted(t *testing.T) {
	known := raceReport("Read", readsID, "Previous write", writesAddress)
	require.Empty(t, races("level=INFO msg=leading\n"+known+"level=INFO msg=following\n"))
	require.Empty(t, races(raceReport("Write", writesAddress, "Previous read", readsID)))
	for _, other := range []string{
		raceReport("Write", readsID, "Previous write", writesAddress),
		raceReport("Read", readsID, "Previous write", "lockstep/cluster.(*Node).answer"),
		raceReport("Read", "lockstep/cluster.(*Node).answer", "Previous write", writesAddress),
		raceReport("Read", writesAddress, "Previous write", readsID),
		"WARNING: DATA RACE\n",
	} {
		require.Len(t, races(known+"level=INFO msg=leading\n"+other+known), 1, other)
	}
}
