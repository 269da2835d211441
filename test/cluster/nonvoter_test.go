package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/test/harness"
)

// untilRoles waits until the members' roles are these, by id; a
// leader counts as a follower.
func untilRoles(t *testing.T, c *harness.Cluster, want map[string]string) {
	t.Helper()
	c.Until(fmt.Sprint("roles ", want), func() error {
		s, err := c.Admin().Status(t.Context())
		if err != nil {
			return err
		}
		for id, role := range want {
			if m, ok := s.Find(id); !ok || m.Role != role && !(role == admin.RoleFollower && m.Role == admin.RoleLeader) {
				return fmt.Errorf("%s: %+v", id, s)
			}
		}
		return nil
	})
}

// A node without a vote serves reads that miss nothing and subscribers, and stays
// without one over restarts.
func TestNonvoterServesAndStaysOne(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	extra := c.Add(c.Nodes[0], "--nonvoter")
	extra.UntilReady()
	untilRoles(t, c, map[string]string{extra.ID: admin.RoleNonvoter})
	m, ok := mustStatus(t, c).Find(extra.ID)
	require.True(t, ok && m.Nonvoter, "%+v", m)

	sid := create(t, c.Nodes[0], "/Lists")
	subscriber, err := harness.Connect(t.Context(), extra.URL, c.Token("alice"))
	require.NoError(t, err)
	defer subscriber.Close()
	require.NoError(t, subscriber.Follow(sid, "list", 0))
	for i := range 50 {
		_, err = c.Nodes[i%3].REST().Post(t.Context(), "/Lists/"+sid+"/Items", harness.Form("Data", fmt.Sprint(`{"i":`, i, `}`)))
		require.NoError(t, err)
		_, err = extra.REST().Get(t.Context(), fmt.Sprint("/Lists/", sid, "/Items/", i))
		require.NoError(t, err, "a read on the nonvoter misses what was acknowledged")
	}
	for heard := 0; heard < 50; {
		n, err := subscriber.Next(30 * time.Second)
		require.NoError(t, err)
		if n.Type == "list_item_added" {
			heard++
		}
	}
	_, err = extra.REST().Post(t.Context(), "/Lists/"+sid+"/Items", harness.Form("Data", `{}`))
	require.NoError(t, err, "writes are passed on")

	extra.Stop()
	extra.Restart("--nonvoter")
	extra.UntilReady()
	untilRoles(t, c, map[string]string{extra.ID: admin.RoleNonvoter})
}

// A nonvoter in reserve votes while a voter is dead, so that a second one may die,
// and gives the vote back.
func TestReserveTakesTheVoteOfADeadNode(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	voters := c.Nodes
	reserve := c.Add(voters[0], "--nonvoter", "--reserve", "2s")
	reserve.UntilReady()
	untilRoles(t, c, map[string]string{reserve.ID: admin.RoleNonvoter})
	sid := create(t, voters[0], "/Maps")

	dead := c.Leader()
	dead.Kill9()
	untilRoles(t, c, map[string]string{reserve.ID: admin.RoleFollower})
	c.Until("the dead one has no vote", func() error {
		if m, ok := mustStatus(t, c).Find(dead.ID); !ok || m.Voter {
			return fmt.Errorf("%+v", m)
		}
		return nil
	})

	second := voters[0]
	if second == dead {
		second = voters[1]
	}
	second.Kill9()
	_, err := reserve.REST().Post(t.Context(), "/Maps/"+sid+"/Items", harness.Form("Key", "k", "Data", `{"alive":true}`))
	require.NoError(t, err, "two of the three that vote now are there")

	second.Restart()
	dead.Restart()
	untilRoles(t, c, map[string]string{dead.ID: admin.RoleFollower, second.ID: admin.RoleFollower, reserve.ID: admin.RoleNonvoter})
	_, err = dead.REST().Get(t.Context(), "/Maps/"+sid+"/Items/k")
	require.NoError(t, err)
}

func mustStatus(t *testing.T, c *harness.Cluster) admin.Status {
	t.Helper()
	s, err := c.Admin().Status(t.Context())
	require.NoError(t, err)
	return s
}

func create(t *testing.T, n *harness.Node, kind string) (sid string) {
	t.Helper()
	a, err := n.REST().Post(t.Context(), kind, nil)
	require.NoError(t, err)
	var o struct{ SID string }
	require.NoError(t, a.Decode(&o))
	return o.SID
}
