package durablestreams_test

import (
	"bufio"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
)

var home = "/v1/Services/" + fsmtest.Service.String()

// told is an event, without the comments before it.
func told(t *testing.T, r *bufio.Reader) (id, name, data string) {
	for {
		text := event(t, r)
		if text == "" || text == ":\n" {
			if text == "" {
				return "", "", ""
			}
			continue
		}
		for line := range strings.Lines(text) {
			field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch field {
			case "id":
				id = value
			case "event":
				name = value
			case "data":
				data = value
			}
		}
		return id, name, data
	}
}

func (c *client) put(key, data string) {
	_, err := c.api.WriteItem(context.Background(), caller, objects.KindMap, fsm.Ref{Name: "m"}, api.ItemWrite{Mode: fsm.PutItem, Key: fsm.ItemKey{Key: key}, Data: []byte(data)})
	require.NoError(c.t, err)
}

func TestEventsOfAMap(t *testing.T) {
	c := start(t)
	_, err := c.api.CreateObject(t.Context(), caller, objects.KindMap, api.Create{Name: new("m")})
	require.NoError(t, err)
	c.put("a", `1`)
	url := c.serve() + home + "/Maps/m/Events"
	answer := c.open(url)
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	events := bufio.NewReader(answer.Body)
	require.Equal(t, ":\n", event(t, events), "what is there is not told")
	c.put("b", `2`)
	added, name, data := told(t, events)
	require.Equal(t, "map_item_added", name)
	require.Contains(t, data, `"key":"b"`)
	require.Contains(t, data, `"data":2`)
	c.put("b", `3`)
	_, name, data = told(t, events)
	require.Equal(t, "map_item_updated", name)
	require.Contains(t, data, `"data":3`)
	_, err = c.api.RemoveItem(t.Context(), caller, objects.KindMap, fsm.Ref{Name: "m"}, fsm.ItemKey{Key: "a"}, objects.Precondition{})
	require.NoError(t, err)
	_, name, data = told(t, events)
	require.Equal(t, "map_item_removed", name)
	require.Contains(t, data, `"key":"a"`)

	back := bufio.NewReader(c.open(url, "Last-Event-ID", added).Body)
	_, name, _ = told(t, back)
	require.Equal(t, "map_item_updated", name, "what was overwritten is left out")
	_, name, _ = told(t, back)
	require.Equal(t, "map_item_removed", name)
	_, name, _ = told(t, bufio.NewReader(c.open(url+"?offset=-1").Body))
	require.Equal(t, "map_item_added", name, "from the beginning")

	_, err = c.api.RemoveObject(t.Context(), caller, objects.KindMap, fsm.Ref{Name: "m"})
	require.NoError(t, err)
	_, name, data = told(t, events)
	require.Equal(t, "ended", name)
	require.Contains(t, data, `"status":404`)
	_, name, _ = told(t, events)
	require.Empty(t, name)

	_, err = c.api.CreateObject(t.Context(), caller, objects.KindMap, api.Create{Name: new("m")})
	require.NoError(t, err)
	require.Equal(t, 410, c.open(url, "Last-Event-ID", added).StatusCode, "another map")
}

func TestManyEventsAreAllTold(t *testing.T) {
	c := start(t)
	_, err := c.api.CreateObject(t.Context(), caller, objects.KindMap, api.Create{Name: new("m")})
	require.NoError(t, err)
	for i := range 250 {
		c.put(strings.Repeat("k", i+1), `1`)
	}
	events := bufio.NewReader(c.open(c.serve() + home + "/Maps/m/Events?offset=-1").Body)
	for i := range 250 {
		_, name, data := told(t, events)
		require.Equal(t, "map_item_added", name)
		require.Contains(t, data, `"`+strings.Repeat("k", i+1)+`"`)
	}
}

func TestEventsOfADocument(t *testing.T) {
	c := start(t)
	_, err := c.api.CreateObject(t.Context(), caller, objects.KindDocument, api.Create{Name: new("d")})
	require.NoError(t, err)
	events := bufio.NewReader(c.open(c.serve() + home + "/Documents/d/Events").Body)
	require.Equal(t, ":\n", event(t, events))
	_, err = c.api.UpdateObject(t.Context(), caller, objects.KindDocument, fsm.Ref{Name: "d"}, api.Update{Data: []byte(`{"x":"\n"}`)})
	require.NoError(t, err)
	_, name, data := told(t, events)
	require.Equal(t, "document_updated", name)
	require.Contains(t, data, `"data":{"x":"\n"}`)
	c.handler.Drain()
	require.Empty(t, event(t, events))
}

func TestWhatHasNoEvents(t *testing.T) {
	c := start(t)
	c.is(404, c.send("GET", home+"/Maps/none/Events", ""))
	c.is(404, c.send("GET", home+"/Streams/s/Events", ""))
	c.is(405, c.send("POST", home+"/Maps/m/Events", ""))
	c.is(201, c.send("PUT", lists+"Events", ""))
	require.Equal(t, "[]", c.is(200, c.send("GET", lists+"Events", "")).Body.String(), "that is a list of this name")
	c.is(400, c.send("GET", home+"/Lists/Events/Events?offset=x", ""))
}
