package realtime_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/auth"
	"lockstep/server/realtime"
)

func onNode(c *realtime.Config) { c.NodeID = "n1" }

// tweaked returns a client that is connected with this option of the official one.
func (w *world) tweaked(tweaks string) *client {
	c := w.dial()
	token := w.token("alice", func(s *auth.TokenSpec) { s.EndpointID = "phone" })
	m := c.ask(map[string]any{"method": "init", "token": token, "tweaks": json.RawMessage(tweaks)}, "")
	require.Equal(w, 200, m.Status.Code)
	return c
}

func (w *world) holder() *fsm.Holder {
	s, _ := w.node.View().Service(fsm.Ref{SID: fsmtest.Service})
	h, _ := w.node.View().Holder(s.Num, "alice", "phone")
	return h
}

func TestSessionHoldsWhatItWritesToItsMaps(t *testing.T) {
	inWorld(t, onNode, func(w *world) {
		plain := w.connect("bob")
		named := plain.http(201, "POST", "/v3/Maps", `{"unique_name":"guests"}`)["sid"].(string)
		other, bySID := plain.create("Maps"), plain.create("Maps")
		list := plain.create("Lists")
		c := w.tweaked(fmt.Sprintf(`{"presence":{"maps":["guests",%q],"ttl":7},"more":1}`, bySID))

		c.put(other, "k", `1`)
		c.http(201, "POST", "/v3/Lists/"+list+"/Items", `{"data":1}`)
		plain.put(named, "bob", `1`)
		c.http(200, "POST", "/v3/Maps/guests/Items/bob", `{"ttl":60}`)
		require.Nil(w, w.holder(), "nothing of that is held")

		c.put(named, "a", `1`)
		require.Equal(w, uint64(1), w.holder().Items)
		require.Equal(w, int64(7000), w.holder().Grace)
		require.Zero(w, w.holder().Until)
		c.put("guests", "b", `1`)
		c.put(bySID, "c", `1`)
		c.http(200, "POST", "/v3/Maps/guests/Items/a", `{"data":2}`)
		c.http(201, "POST", "/v3/Maps/guests/Items", `{"key":"d","data":1}`)
		require.Equal(w, uint64(4), w.holder().Items)
		var there []fsm.Endpoint
		w.node.View().EndpointsOf("n1", func(e fsm.Endpoint) bool {
			there = append(there, e)
			return true
		})
		require.Len(w, there, 1, "the store knows where the session is")
		require.Equal(w, "phone", there[0].ID)

		c.http(200, "DELETE", "/v3/Maps/guests/Items/a", "")
		require.Equal(w, uint64(3), w.holder().Items)
		for i := range objects.MaxHeld - 3 {
			c.put("guests", fmt.Sprint(i), `1`)
		}
		require.EqualValues(w, 54914, c.http(400, "PUT", "/v3/Maps/guests/Items/more", `{"data":1}`)["code"])
		c.http(404, "GET", "/v3/Maps/guests/Items/more", "")
		c.put(other, "more", `1`)
	})
}

// What an application got wrong it hears where it writes to a map.
func TestPresenceThatIsWrongIsToldAtTheWrite(t *testing.T) {
	inWorld(t, onNode, func(w *world) {
		named := w.connect("bob").http(201, "POST", "/v3/Maps", `{"unique_name":"guests"}`)["sid"].(string)
		for _, wrong := range []string{
			`{"maps":[]}`, `{}`, `1`, `"guests"`, `{"maps":"guests"}`, `{"maps":["guests"],"ttl":4}`, `{"maps":["guests"],"ttl":3601}`,
			`{"maps":["guests"],"ttl":"5"}`, `{"maps":["guests"],"ttl":5.5}`, `{"maps":["guests"],"grace":5}`, `{"maps":[""]}`,
			`{"maps":["` + strings.Repeat(`a","`, 16) + `a"]}`,
		} {
			c := w.tweaked(`{"presence":` + wrong + `}`)
			require.EqualValues(w, 54916, c.http(400, "PUT", "/v3/Maps/"+named+"/Items/k", `{"data":1}`)["code"], wrong)
			c.http(201, "POST", "/v3/Lists/"+c.create("Lists")+"/Items", `{"data":1}`)
			c.ws.Close()
		}
		for _, none := range []string{`null`, `{}`, `7`, `{"presence":null}`, `[]`} {
			c := w.tweaked(none)
			c.put(named, "k", `1`)
			c.ws.Close()
		}
		require.Nil(w, w.holder())
		w.tweaked(`{"presence":{"maps":["guests"]}}`).put(named, "k", `1`)
		require.EqualValues(w, objects.DefaultGrace*1000, w.holder().Grace)
	})
}
