package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"lockstep/cluster/internal/leadership"
	"lockstep/cluster/internal/lifetime"
	"lockstep/fsm"
	"lockstep/fsm/commandid"
)

// levelInterval is how often a leader looks whether the format level can rise; scaled.
const levelInterval = time.Second

// raiseLevel raises the cluster's format level to what all members know, as long
// as the term lasts and this node knows a higher one.
func (n *Node) raiseLevel(t *leadership.Term) {
	for n.fsm.View().Level() < fsm.Newest {
		lifetime.Pause(t.Context(), n.config.scaled(levelInterval))
		if t.Context().Err() != nil {
			return
		}
		if err := n.changes.Exclusively(t.Context(), func() error { return n.raiseOnce(t.Context()) }); err != nil {
			n.config.Logger.Warn("format level not raised", "error", err)
		}
	}
}

// raiseOnce looks once whether the level can rise. Nobody joins meanwhile: the
// caller holds the membership.
func (n *Node) raiseOnce(ctx context.Context) error {
	servers := n.members.All()
	level := commonLevel(servers, n.survey.Reports(ctx, servers))
	if level <= n.fsm.View().Level() {
		return nil
	}
	result, err := n.Propose(ctx, &fsm.Command{ID: commandid.New(), Op: &fsm.RaiseLevel{Level: level}})
	switch {
	case err != nil:
		return err
	case result.Err != nil:
		return result.Err
	}
	if _, err := n.fsm.Wait(ctx, result.Index); err != nil {
		return err
	}
	n.config.Logger.Info("format level raised: all members know the new one", "level", level)
	return nil
}

// commonLevel returns the highest format level that all members know, by what
// they reported just now; 0 if one of them did not report.
func commonLevel(servers []raft.Server, reports map[string]NodeStatus) fsm.Level {
	level := fsm.Newest
	for _, s := range servers {
		level = min(level, reports[string(s.ID)].Newest)
	}
	return level
}

// refuseOld refuses a node whose release does not know the cluster's level.
func (n *Node) refuseOld(at NodeStatus) error {
	if level := n.fsm.View().Level(); at.Newest < level {
		return fmt.Errorf("%w: the cluster is at format level %d, and the release of %s knows up to level %d", ErrOldRelease, level, at.ID, at.Newest)
	}
	return nil
}

// refuseNewer ends this node's part in a cluster whose level it does not know: it
// was put back to an older release while the others went on.
func (n *Node) refuseNewer(other NodeStatus) {
	if other.Level > fsm.Newest {
		n.fail(fmt.Errorf("%s is at format level %d, and this release knows up to level %d: %w", other.ID, other.Level, fsm.Newest, fsm.ErrNewer))
	}
}
