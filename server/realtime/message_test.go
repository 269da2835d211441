package realtime

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestParseMessage(t *testing.T) {
	m, err := parseMessage([]byte("TWILSOCK V3.0 44\r\n" + `{"method":"message","id":"x","payload_size":3}`[:44] + "\r\n"))
	require.ErrorIs(t, err, errMessage, "the header is cut off")
	require.Zero(t, m)

	m, err = parseMessage([]byte("TWILSOCK V3.0 46\r\n" + `{"method":"message","id":"x","payload_size":3}` + "\r\nabc\r\n"))
	require.NoError(t, err)
	require.Equal(t, "message", m.Method)
	require.Equal(t, "x", m.ID)
	require.Equal(t, "abc", string(m.payload), "what is behind it does not count")

	m, err = parseMessage([]byte("TWILSOCK V3.0 41\r\n" + `{"method":"reply","id":"x","status":null}` + "\r\n"))
	require.NoError(t, err)
	require.Equal(t, methodReply, m.Method)

	_, err = parseMessage([]byte("TWILSOCK V3.0 17\r\n" + `{"method":"reply"` + "\r\n"))
	require.ErrorIs(t, err, errMessage)
}

func FuzzParseMessage(f *testing.F) {
	for _, seed := range []string{
		"TWILSOCK V3.0 46\r\n" + `{"method":"message","id":"x","payload_size":3}` + "\r\nabc",
		"TWILSOCK V3.0 27\r\n" + `{"method":"reply","id":"x"}` + "\r\n",
		"TWILSOCK V3.0 2\r\n{}\r\n", "TWILSOCK V3.0 -1\r\n", "TWILSOCK V3.0 4294967295\r\n{}\r\n", "garbage", "",
		"TWILSOCK V3.0 60\r\n" + `{"method":"message","id":"x","payload_size":900000000000000}` + "\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			require.ErrorIs(t, err, errMessage)
			return
		}
		require.NotEmpty(t, m.Method)
		require.LessOrEqual(t, len(m.payload), len(b))
		if m.Method == methodMessage {
			newRequest(m) // must not panic
		}
	})
}

// FuzzAppendMessage: what the server sends it can read itself.
func FuzzAppendMessage(f *testing.F) {
	f.Add("id", []byte(`{"a":1}`))
	f.Add("\r\n\"", []byte{})
	f.Fuzz(func(t *testing.T, id string, payload []byte) {
		if id == "" || len(payload) > 1<<20 {
			return
		}
		frame := appendMessage(nil, appendHead(nil, "notification", id), payload)
		head := 2
		switch frame[1] {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		m, err := parseMessage(frame[head:])
		require.NoError(t, err)
		require.Equal(t, "notification", m.Method)
		require.Equal(t, len(payload), len(m.payload))
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"path":"/v3/Maps/x%2Fy/Items?A=b","method":"GET","params":{"From":"a%20b","Key":["1","2"]},"headers":{"If-Match":5}}`))
	f.Add([]byte(`{"path":"%","params":{"x":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) {
			return
		}
		r, err := newRequest(message{header: header{ID: "x", HTTPRequest: b}})
		if err != nil {
			require.ErrorIs(t, err, errMessage)
			return
		}
		if r.handler != nil {
			return // what could not be decoded is answered with an error
		}
		require.NotEmpty(t, r.path)
		r.kind = objects.KindMap
		if p, err := r.page(); err == nil {
			require.LessOrEqual(t, p.Limit, objects.MaxPageSize)
			require.Positive(t, p.Limit)
		}
	})
}
