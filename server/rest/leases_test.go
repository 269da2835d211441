package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/commandid"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
)

// later lets time go on, and does what a leader does then.
func (c *client) later(d time.Duration) {
	c.clock = c.clock.Add(d)
	r, err := c.node.Propose(c.t.Context(), fsm.Expire(commandid.New()))
	require.NoError(c.t, err)
	require.Nil(c.t, r.Err)
}

func TestLeaseHoldsItemsWhileItIsRenewed(t *testing.T) {
	c := start(t)
	c.post(home+"/Maps", "UniqueName", "m")
	opened := c.send(http.MethodPost, home+"/Leases", encode("Ttl", "30"))
	require.Equal(t, http.StatusCreated, opened.Code)
	id := opened.json["sid"].(string)
	require.Regexp(t, `^LE[0-9a-f]{32}$`, id)
	require.EqualValues(t, 30, opened.json["ttl"])
	require.Equal(t, "2026-03-04T05:06:37Z", opened.json["date_expires"])
	lease := path(t, opened.json["url"])
	require.Equal(t, home+"/Leases/"+id, lease)

	c.post(home+"/Maps/m/Items", "Key", "a", "Data", `1`, "Lease", id)
	c.post(home+"/Maps/m/Items", "Key", "b", "Data", `1`)
	c.post(home+"/Maps/m/Items/b", "Data", `2`, "Lease", id)
	require.EqualValues(t, 2, c.get(lease).json["items"])
	for range 5 {
		c.later(29 * time.Second)
		require.EqualValues(t, 30, c.post(lease).json["ttl"])
	}
	c.post(lease, "Ttl", "10")
	c.later(10*time.Second - time.Millisecond)
	require.Len(t, c.get(home + "/Maps/m/Items").json["items"], 2)
	c.later(time.Millisecond)
	require.Empty(t, c.get(home + "/Maps/m/Items").json["items"])
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		c.send(method, lease, "").refused(t, 404, 20404)
	}
	c.send(http.MethodPost, home+"/Maps/m/Items", encode("Key", "c", "Data", `1`, "Lease", id)).refused(t, 409, 54912)

	second := path(t, c.post(home + "/Leases").json["url"])
	id = strings.TrimPrefix(second, home+"/Leases/")
	c.post(home+"/Maps/m/Items", "Key", "a", "Data", `1`, "Lease", id)
	c.remove(second)
	require.Empty(t, c.get(home + "/Maps/m/Items").json["items"], "what is closed lets go at once")
}

func TestLeaseRefusesClearly(t *testing.T) {
	c := start(t)
	c.post(home+"/Maps", "UniqueName", "m")
	c.post(home+"/Lists", "UniqueName", "l")
	for _, ttl := range []string{"4", "3601", "x", "-1", "5.5", "99999999999999999999"} {
		c.send(http.MethodPost, home+"/Leases", encode("Ttl", ttl)).refused(t, 400, 54913)
	}
	lease := c.post(home + "/Leases")
	id, url := lease.json["sid"].(string), path(t, lease.json["url"])
	require.EqualValues(t, objects.DefaultGrace, lease.json["ttl"])
	c.send(http.MethodPost, url, encode("Ttl", "1")).refused(t, 400, 54913)
	c.send(http.MethodPost, home+"/Lists/l/Items", encode("Data", `1`, "Lease", id)).refused(t, 400, 20001)
	c.post(home+"/Maps/m/Items", "Key", "k", "Data", `1`)
	c.send(http.MethodPost, home+"/Maps/m/Items/k", encode("ItemTtl", "60", "Lease", id)).refused(t, 400, 20001)
	c.send(http.MethodPost, home+"/Maps/m/Items", encode("Key", "j", "Data", `1`, "Lease", "none")).refused(t, 409, 54912)
	c.send(http.MethodPost, home+"/Maps/none/Items", encode("Key", "j", "Data", `1`, "Lease", id)).refused(t, 404, 20404)
	c.send(http.MethodPost, home+"/Maps/m/Items", encode("Key", "k", "Data", `1`, "Lease", id)).refused(t, 409, 54208)
	c.send(http.MethodGet, home+"/Leases", "").refused(t, 405, 20004)
	c.send(http.MethodPost, "/v1/Services/none/Leases", "").refused(t, 404, 20404)
	c.send(http.MethodGet, home+"/Leases/"+id+"/Items", "").refused(t, 404, 20404)
	for i := range objects.MaxHeld {
		c.post(home+"/Maps/m/Items", "Key", fmt.Sprint(i), "Data", `1`, "Lease", id)
	}
	c.send(http.MethodPost, home+"/Maps/m/Items", encode("Key", "more", "Data", `1`, "Lease", id)).refused(t, 400, 54914)
}

func TestLeaseIsOpenedOnceUnderItsKey(t *testing.T) {
	c := start(t)
	key := header("Idempotency-Key", "once")
	first := c.send(http.MethodPost, home+"/Leases", "", key)
	again := c.send(http.MethodPost, home+"/Leases", "", key)
	require.Equal(t, http.StatusCreated, again.Code)
	require.Equal(t, first.json["sid"], again.json["sid"])
	require.NotEqual(t, first.json["sid"], c.post(home + "/Leases").json["sid"])
}

func TestLeaseInATransaction(t *testing.T) {
	c := start(t)
	c.post(home+"/Maps", "UniqueName", "m")
	id := c.post(home + "/Leases").json["sid"].(string)
	part := `{"method":"POST","path":"/Maps/m/Items","params":{"Key":"%s","Data":1,"Lease":"` + id + `"}}`
	a := c.transact("[" + fmt.Sprintf(part, "a") + "," + fmt.Sprintf(part, "b") + "]")
	require.Equal(t, http.StatusOK, a.Code, a.Body)
	c.later(objects.DefaultGrace * time.Second)
	require.Empty(t, c.get(home + "/Maps/m/Items").json["items"])
	c.transact(`[{"method":"POST","path":"/Leases","params":{}}]`).refused(t, 400, 20001)
}

// A key of one service has the leases of that service.
func TestLeaseAndKeyOfOneService(t *testing.T) {
	c := start(t)
	sid := objects.NewSID(objects.KindKey, [16]byte{9})
	c.node.Must(&fsm.CreateKey{SID: sid, Secret: "secret", Scope: objects.KeyScope{Service: fsmtest.Service}})
	as := func(r *http.Request) { r.SetBasicAuth(sid.String(), "secret") }
	opened := c.send(http.MethodPost, home+"/Leases", "", as)
	require.Equal(t, http.StatusCreated, opened.Code)
	require.Equal(t, http.StatusNoContent, c.send(http.MethodDelete, path(t, opened.json["url"]), "", as).Code)
	other := c.post("/v1/Services", "FriendlyName", "other")
	c.send(http.MethodPost, path(t, other.json["url"])+"/Leases", "", as).refused(t, 403, 20003)
}
