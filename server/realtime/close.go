package realtime

import (
	"time"

	"lockstep/server/realtime/wire"
)

// ending is a reason for which the server ends a session: what its close message
// says (part 2.3), and the label of the metric.
type ending struct {
	reason  string
	code    int // of the close message; 0: there is none
	status  string
	backoff time.Duration  // the client stays away for
	socket  wire.CloseCode // code of the websocket's close frame; 0: the connection just ends
}

// The reasons. What a client does about each is decided by its code: after 401,
// 406, 410 and 417 it does not come back by itself, after 308 when it has waited, and
// at once when there is no message.
var (
	endForeign      = ending{reason: "foreign", code: 406, status: "UNSUPPORTED", socket: wire.CloseNormal}
	endMalformed    = ending{reason: "malformed", code: 417, status: "MALFORMED", socket: wire.CloseNormal}
	endUnauthorized = ending{reason: "unauthorized", code: 401, status: "UNAUTHORIZED", socket: wire.CloseNormal}
	endExpired      = ending{reason: "token_expired", code: 410, status: "TOKEN_EXPIRED", socket: wire.CloseNormal}
	endFlood        = ending{reason: "flood", code: 308, status: "TOO_MANY_REQUESTS", backoff: 10 * time.Second, socket: wire.CloseNormal}
	endDrained      = ending{reason: "drained", socket: wire.CloseServiceRestart}
	endTooBig       = ending{reason: "message_too_big", socket: wire.CloseTooBig}
	endSlow         = ending{reason: "slow"}
	endOverrun      = ending{reason: "overrun"} // more waited for the client than may
	endEvicted      = ending{reason: "evicted"} // before it has introduced itself
)

// frames returns what is sent last.
func (e ending) frames() []byte {
	var b []byte
	if e.code != 0 {
		b = wire.AppendGoodbye(b, e.code, e.status, e.backoff)
	}
	if e.socket != 0 {
		b = wire.AppendClose(b, e.socket)
	}
	return b
}
