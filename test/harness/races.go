package harness

import (
	"regexp"
	"slices"
	"strings"
)

// races returns the reports of the race detector in a log, but for the one that is
// known to be hashicorp/raft's own.
//
// Raft 1.8 reads a member's id without its lock (updateLastAppended, replication.go)
// while a leader that is told where the member is now writes id and address
// (startStopReplication, raft.go). The id is the same before and after, so whatever is
// read of either is right.
func races(log string) (reports []string) {
	for _, section := range strings.Split(log, raceBorder) {
		if at := strings.Index(section, raceBegin); at >= 0 && !isRaftsOwn(section[at:]) {
			reports = append(reports, section[at:])
		}
	}
	return reports
}

const (
	raceBorder = "==================\n"
	raceBegin  = "WARNING: DATA RACE"
)

// accesses finds the two accesses of a report, each with the function that it is in.
var accesses = regexp.MustCompile(`(?mi)^(?:previous )?(read|write) at 0x[0-9a-f]+ by .*:\n +(\S+)\(\)$`)

func isRaftsOwn(report string) bool {
	var found []string
	for _, access := range accesses.FindAllStringSubmatch(report, -1) {
		found = append(found, strings.ToLower(access[1])+" "+access[2])
	}
	slices.Sort(found)
	return slices.Equal(found, []string{
		"read github.com/hashicorp/raft.updateLastAppended",
		"write github.com/hashicorp/raft.(*Raft).startStopReplication",
	})
}
