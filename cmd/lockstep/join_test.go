package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
)

// A node that replaces its earlier self votes when the new incarnation does, not
// while the old one still has the vote.
func TestStagesOfJoining(t *testing.T) {
	other := admin.NodeStatus{ID: "n1", Server: "n1.x", Role: admin.RoleLeader}
	earlier := admin.NodeStatus{ID: "n2", Server: "n2.old", Role: admin.RoleFollower}
	as := func(role string) admin.NodeStatus { return admin.NodeStatus{ID: "n2", Server: "n2.new", Role: role} }
	for _, c := range []struct {
		nodes []admin.NodeStatus
		want  string
	}{
		{[]admin.NodeStatus{other}, ""},
		{[]admin.NodeStatus{other, earlier}, ""},
		{[]admin.NodeStatus{other, as(admin.RoleNonvoter), earlier}, "is nonvoter, catching up"},
		{[]admin.NodeStatus{other, as(admin.RoleFollower), earlier}, "votes, and takes the place of its earlier self"},
		{[]admin.NodeStatus{other, as(admin.RoleFollower)}, votes},
		{[]admin.NodeStatus{other, {ID: "n2", Server: "n2.new", Role: admin.RoleNonvoter, Nonvoter: true, Problem: "this node is catching up"}}, "is nonvoter, catching up"},
		{[]admin.NodeStatus{other, {ID: "n2", Server: "n2.new", Role: admin.RoleNonvoter, Nonvoter: true}}, serves},
	} {
		require.Equal(t, c.want, stageOf(admin.Status{Nodes: c.nodes}, "n2", []string{"n2.old"}), "%+v", c.nodes)
	}
}

func TestHowFarANodeHasCaughtUp(t *testing.T) {
	leader := admin.NodeStatus{ID: "n1", Server: "n1.x", Role: admin.RoleLeader, AppliedIndex: 500}
	earlier := admin.NodeStatus{ID: "n2", Server: "n2.old", Role: admin.RoleFollower, AppliedIndex: 400}
	now := admin.NodeStatus{ID: "n2", Server: "n2.new", Role: admin.RoleNonvoter, AppliedIndex: 20}
	done, all := caughtUp(admin.Status{Nodes: []admin.NodeStatus{leader, now, earlier}}, "n2", []string{"n2.old"})
	require.Equal(t, []int64{20, 500}, []int64{done, all})
	now.AppliedIndex = 510 // it was asked later than the leader
	done, all = caughtUp(admin.Status{Nodes: []admin.NodeStatus{leader, now}}, "n2", nil)
	require.Equal(t, []int64{500, 500}, []int64{done, all})
	_, all = caughtUp(admin.Status{Nodes: []admin.NodeStatus{now}}, "n2", nil)
	require.Zero(t, all, "nobody leads at the moment")
}
