package realtime

import (
	"slices"

	"lockstep/fsm"
	"lockstep/objects"
)

// echoLength bounds the commands of a session whose events are still to come,
// and the removals that its replies told.
const echoLength = 1024

// echo knows a session's own commands, so that their events can be held back
// until the replies are on their way, and some left out (part 6, "One's own
// writes"). The session's lock guards it.
type echo struct {
	sent    map[fsm.CommandID]*command
	order   []fsm.CommandID
	writing map[objects.SID]int // commands under way to each object
	removed []removal
}

type command struct {
	underWay int         // requests that sent it and are not answered; a client may repeat one
	holds    objects.SID // the object whose events wait for the answer
}

// removal is an item's, by the object that held it and the removal's event.
type removal struct {
	object objects.SID
	id     objects.EventID
}

func newEcho() echo {
	return echo{sent: map[fsm.CommandID]*command{}, writing: map[objects.SID]int{}}
}

// sending notes a command before it is proposed. object is what it writes to,
// if that is known.
func (e *echo) sending(id fsm.CommandID, object objects.SID) {
	c := e.sent[id]
	if c == nil {
		c = &command{}
		e.sent[id] = c
		e.order = append(e.order, id)
		e.forgetOldest()
	}
	c.underWay++
	e.writing[object]++
}

// forgetOldest keeps what is under way.
func (e *echo) forgetOldest() {
	for n := len(e.order); n > 0 && len(e.order) > echoLength; n-- {
		id := e.order[0]
		e.order = e.order[1:]
		if e.sent[id].underWay > 0 {
			e.order = append(e.order, id)
		} else {
			delete(e.sent, id)
		}
	}
}

// answered notes that the reply is in the outbox. It gives the object whose
// events waited for that, if any.
func (e *echo) answered(id fsm.CommandID, object objects.SID) (held objects.SID) {
	if e.writing[object]--; e.writing[object] == 0 {
		delete(e.writing, object)
	}
	c := e.sent[id]
	c.underWay--
	return c.holds
}

// own says whether a command is the session's.
func (e *echo) own(id fsm.CommandID) bool { return e.sent[id] != nil }

// pending gives the session's command whose reply is still to be sent, or nil.
func (e *echo) pending(id fsm.CommandID) *command {
	if c := e.sent[id]; c != nil && c.underWay > 0 {
		return c
	}
	return nil
}

// removing notes a removal that a reply is about to tell.
func (e *echo) removing(object objects.SID, id objects.EventID) {
	if len(e.removed) >= echoLength {
		e.removed = e.removed[1:]
	}
	e.removed = append(e.removed, removal{object, id})
}

// told says whether a replayed event is a removal that a reply told.
func (e *echo) told(event *objects.Event) bool {
	return event.Type == objects.ItemRemoved && slices.Contains(e.removed, removal{event.Object.SID, event.ID})
}
