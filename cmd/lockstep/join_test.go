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
