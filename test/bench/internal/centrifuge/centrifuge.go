// Package centrifuge measures a Centrifuge server, to whose one channel all clients
// subscribe.
package centrifuge

import (
	"fmt"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

// New returns the peer.
func New() peer.Peer {
	return (&peer.Broadcaster{
		Title: "centrifuge", Kind: load.Text, Program: "centrifugenode", Subscribe: "/ws", Publish: "/ws",
		Row: report.Centrifuge,

		Hello:      []byte("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"c\"}}"),
		Subscribed: []byte(`"subscribe"`),
		Introduce:  []byte(`{"id":1,"connect":{}}`),
		Ping:       []byte("{}"),
		Publication: func(n int) []byte {
			return fmt.Appendf(nil, `{"id":%d,"publish":{"channel":"c","data":%q}}`, n+2, load.Stamped(load.Size))
		},
	}).Alone()
}
