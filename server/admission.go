package server

import (
	"lockstep/fsm"
	"lockstep/server/limits"
)

// admission decides on the leader which commands may enter the log: those that
// the rate limits let pass, and that there is space for.
type admission struct {
	limits *limits.Limits
	space  space
	room   *diskRoom
}

// admit implements cluster.Config.Admit.
func (a admission) admit(view *fsm.View, c *fsm.Command, known bool) *fsm.Result {
	if refused := a.limits.Admit(view, c, known); refused != nil {
		return &fsm.Result{Err: refused}
	}
	if refused := a.room.refuse(c); refused != nil && !known {
		return &fsm.Result{Err: refused}
	}
	if refused := a.space.refuse(view, c); refused != nil && !known {
		return &fsm.Result{Err: refused}
	}
	return nil
}
