package realtime

import "lockstep/fsm"

// echoLength bounds the commands of a session whose events are still to come.
const echoLength = 1024

// echo knows a session's own commands, so that their events can be held back
// until the replies are on their way, and some left out (part 6, "One's own
// writes"). The session's lock guards it.
type echo struct {
	replied map[fsm.CommandID]bool
	order   []fsm.CommandID
}

func newEcho() echo { return echo{replied: map[fsm.CommandID]bool{}} }

// sending notes a command before it is proposed.
func (e *echo) sending(id fsm.CommandID) {
	if _, known := e.replied[id]; !known {
		e.order = append(e.order, id)
	}
	e.replied[id] = false
	for len(e.order) > echoLength {
		delete(e.replied, e.order[0])
		e.order = e.order[1:]
	}
}

// answered notes that the reply is in the outbox.
func (e *echo) answered(id fsm.CommandID) {
	if _, known := e.replied[id]; known {
		e.replied[id] = true
	}
}

// own says whether a command is the session's, and whether its reply is still
// to be sent.
func (e *echo) own(id fsm.CommandID) (own, pending bool) {
	replied, own := e.replied[id]
	return own, own && !replied
}
