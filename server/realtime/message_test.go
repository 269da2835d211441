package realtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMessage(t *testing.T) {
	text := func(header, payload string) string {
		return fmt.Sprintf("TWILSOCK V3.0 %d\r\n%s\r\n%s", len(header), header, payload)
	}
	for name, c := range map[string]struct {
		text    string
		valid   bool
		payload string
	}{
		"without payload":       {text(`{"method":"ping","id":"x"}`, ""), true, ""},
		"payload of size 0":     {text(`{"method":"ping","payload_size":0}`, ""), true, ""},
		"payload":               {text(`{"method":"ping","payload_size":2}`, "{}"), true, "{}"},
		"line behind payload":   {text(`{"method":"ping","payload_size":2}`, "{}\r\n"), true, "{}"},
		"size counts bytes":     {text(`{"method":"ping","payload_size":3,"id":"ü"}`, "aü"), true, "aü"},
		"unknown members":       {text(`{"method":"init","metadata":{"ver":1},"tweaks":null}`, ""), true, ""},
		"empty":                 {"", false, ""},
		"other magic":           {"TWILSOCK V2.0 2\r\n{}\r\n", false, ""},
		"no line":               {"TWILSOCK V3.0 2", false, ""},
		"negative size":         {"TWILSOCK V3.0 -1\r\n{}\r\n", false, ""},
		"size beyond the end":   {"TWILSOCK V3.0 9\r\n{}\r\n", false, ""},
		"size without limit":    {"TWILSOCK V3.0 99999999999999999999\r\n{}\r\n", false, ""},
		"size too small":        {"TWILSOCK V3.0 1\r\n{}\r\n", false, ""},
		"no line behind header": {`TWILSOCK V3.0 17` + "\r\n" + `{"method":"ping"}`, false, ""},
		"header not JSON":       {text(`{"method":"ping"`, ""), false, ""},
		"no method":             {text(`{"id":"x"}`, ""), false, ""},
		"payload cut off":       {text(`{"method":"ping","payload_size":3}`, "{}"), false, ""},
		"payload negative":      {text(`{"method":"ping","payload_size":-1}`, ""), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parseMessage([]byte(c.text))
			if !c.valid {
				require.ErrorIs(t, err, errMessage)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.payload, string(m.payload))
		})
	}
}

func TestParametersAndHeadersOfAnyType(t *testing.T) {
	var h httpRequest
	require.NoError(t, json.Unmarshal([]byte(`{"params":{"text":"a%20b","number":50,"list":["first","second"],"none":[],"null":null},"headers":{"If-Match":-1}}`), &h))
	require.Equal(t, map[string]param{"text": "a%20b", "number": "50", "list": "first", "none": "", "null": ""}, h.Params)
	require.Equal(t, map[string]param{"If-Match": "-1"}, h.Headers)
}

func TestAcknowledgementsAreToldFromOtherMessages(t *testing.T) {
	reply := encode(map[string]any{"method": "reply", "id": "TM1"}, []byte(`{}`))
	require.True(t, isAcknowledgement(reply))
	require.False(t, isAcknowledgement(encode(map[string]any{"method": "message", "id": "TM1"}, []byte(`{"method":"reply"}`))), "a payload is no header")
	require.False(t, isAcknowledgement(encode(map[string]any{"method": "message", "id": `"method":"reply"`}, nil)))
	require.False(t, isAcknowledgement([]byte(`{"method":"reply"}`)))
	require.False(t, isAcknowledgement(nil))
}

func TestFrame(t *testing.T) {
	for _, size := range []int{0, 1, 80, 100, 125, 126, 127, 1000, 1<<16 - 100, 1 << 16, 1 << 20} {
		payload := []byte(strings.Repeat("x", size))
		b := frame([]byte(`{"method":"m"}`), payload)
		message := encode(map[string]any{"method": "m"}, payload)
		message = bytes.Replace(message, fmt.Appendf(nil, `,"payload_size":%d`, size), nil, 1)
		message = bytes.Replace(message, fmt.Appendf(nil, "V3.0 %d", len(`{"method":"m"}`)+len(fmt.Sprintf(`,"payload_size":%d`, size))), []byte("V3.0 14"), 1)
		require.Equal(t, byte(0x82), b[0], "a final binary frame")
		head := 2
		switch n := len(message); {
		case n < 126:
			require.Equal(t, byte(n), b[1])
		case n < 1<<16:
			head = 4
			require.Equal(t, []byte{126, byte(n >> 8), byte(n)}, b[1:4])
		default:
			head = 10
			require.Equal(t, []byte{127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, b[1:10])
		}
		require.True(t, bytes.Equal(message, b[head:]), "size %d", size)
	}
}

// FuzzParseMessage: nothing panics, and what is accepted is the same again
// when its header and payload are framed.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte("TWILSOCK V3.0 17\r\n{\"method\":\"ping\"}\r\n"))
	f.Add(encode(map[string]any{"method": "message", "id": "TM1", "http_request": map[string]any{
		"path": "/v3/Maps", "method": "GET", "params": map[string]any{"From": []any{"a", 1}}, "headers": map[string]any{"If-Match": nil},
	}}, []byte(`{"data":{}}`)))
	f.Add(append(encode(map[string]any{"method": "reply", "id": "x"}, []byte("{}")), "\r\n"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		isAcknowledgement(b)
		m, err := parseMessage(b)
		if err != nil {
			require.ErrorIs(t, err, errMessage)
			return
		}
		header, err := json.Marshal(m.header)
		require.NoError(t, err)
		again, err := parseMessage(append(fmt.Appendf(nil, "TWILSOCK V3.0 %d\r\n%s\r\n", len(header), header), m.payload...))
		require.NoError(t, err)
		require.Equal(t, m.Method, again.Method)
		require.Equal(t, m.ID, again.ID)
		require.Equal(t, m.payload, again.payload)
	})
}
