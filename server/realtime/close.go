package realtime

import (
	"time"

	"lockstep/server/realtime/wire"
)

// ending is a reason for which a connection ends: a row of endings.
type ending int

const (
	endForeign ending = iota
	endMalformed
	endUnauthorized
	endRejected
	endExpired
	endFlood
	endDrained
	endTooBig
	endSlow
	endOverrun
	endSilent
	endEvicted
	endFault
	endClient
	endLost
)

// endings says what is sent last for each reason, and its label in the metric. What
// a client does about it is decided by the code of the close message (part 2.3):
// after 401, 406, 410 and 417 it does not come back by itself, after 308 when it has
// waited, and at once when there is no message.
//
// Connections that end with the process have no reason.
var endings = [...]struct {
	reason  string
	code    int // of the close message; 0: there is none
	status  string
	backoff time.Duration  // the client stays away for
	socket  wire.CloseCode // of the websocket's close frame; 0: the connection just ends
}{
	endForeign:      {reason: "foreign", code: 406, status: "UNSUPPORTED", socket: wire.CloseNormal},
	endMalformed:    {reason: "malformed", code: 417, status: "MALFORMED", socket: wire.CloseNormal},
	endUnauthorized: {reason: "unauthorized", code: 401, status: "UNAUTHORIZED", socket: wire.CloseNormal},
	endRejected:     {reason: "rejected", socket: wire.CloseNormal}, // behind the answer to its init, which says why
	endExpired:      {reason: "token_expired", code: 410, status: "TOKEN_EXPIRED", socket: wire.CloseNormal},
	endFlood:        {reason: "flood", code: 308, status: "TOO_MANY_REQUESTS", backoff: 10 * time.Second, socket: wire.CloseNormal},
	endDrained:      {reason: "drained", socket: wire.CloseServiceRestart},
	endTooBig:       {reason: "message_too_big", socket: wire.CloseTooBig},
	endSlow:         {reason: "slow"},
	endOverrun:      {reason: "overrun"}, // more waited for the client than may
	endSilent:       {reason: "silent"},
	endEvicted:      {reason: "evicted"}, // before it has introduced itself
	endFault:        {reason: "fault"},   // of the server's own
	endClient:       {reason: "client"},  // which said goodbye
	endLost:         {reason: "lost"},    // without a word: by the network, or with the client
}

// frames returns what is sent last.
func (e ending) frames() []byte {
	row := &endings[e]
	var b []byte
	if row.code != 0 {
		b = wire.AppendGoodbye(b, row.code, row.status, row.backoff)
	}
	if row.socket != 0 {
		b = wire.AppendClose(b, row.socket)
	}
	return b
}

// farewell is the answer to a client that has closed its websocket by itself.
func farewell() []byte { return wire.AppendClose(nil, wire.CloseNormal) }

// ended counts that the connection ends, and returns what is sent last.
func (s *session) ended(why ending) (last []byte) {
	s.server.metrics.endings[why].Inc()
	return why.frames()
}
