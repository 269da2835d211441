package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"lockstep/objects"
)

// parseMessage reads a message with its payload.
func parseMessage(b []byte, limit int) (m Message, payload []byte, err error) {
	if m, err = readMessage(bufio.NewReaderSize(bytes.NewReader(b), readSize), limit); err != nil || m.Oversized {
		return m, nil, err
	}
	payload, err = m.Payload()
	return m, payload, err
}

const testLimit = 64 << 10

func TestReadMessage(t *testing.T) {
	_, _, err := parseMessage([]byte("TWILSOCK V3.0 44\r\n"+`{"method":"message","id":"x","payload_size":3}`[:44]+"\r\n"), testLimit)
	require.ErrorIs(t, err, ErrMalformed, "the header is cut off")

	m, payload, err := parseMessage([]byte("TWILSOCK V3.0 46\r\n"+`{"method":"message","id":"x","payload_size":3}`+"\r\nabc\r\n"), testLimit)
	require.NoError(t, err)
	require.Equal(t, "message", m.Method)
	require.Equal(t, "x", m.ID)
	require.Equal(t, "abc", string(payload), "what is behind it does not count")

	_, _, err = parseMessage([]byte("TWILSOCK V3.0 46\r\n"+`{"method":"message","id":"x","payload_size":3}`+"\r\nab"), testLimit)
	require.ErrorIs(t, err, ErrMalformed, "the payload is cut off")

	m, _, err = parseMessage([]byte("TWILSOCK V3.0 41\r\n"+`{"method":"reply","id":"x","status":null}`+"\r\n"), testLimit)
	require.NoError(t, err)
	require.Equal(t, MethodReply, m.Method)

	_, _, err = parseMessage([]byte("TWILSOCK V3.0 17\r\n"+`{"method":"reply"`+"\r\n"), testLimit)
	require.ErrorIs(t, err, ErrMalformed)
}

func TestSizesCountAsTheyAreDeclared(t *testing.T) {
	message := func(head string) []byte {
		return []byte("TWILSOCK V3.0 " + strconv.Itoa(len(head)) + "\r\n" + head + "\r\n")
	}

	m, _, err := parseMessage(message(`{"method":"message","id":"x","payload_size":65600}`), testLimit)
	require.NoError(t, err, "nothing of the payload is needed")
	require.True(t, m.Oversized)
	require.Equal(t, "x", m.ID)

	long := message(`{"method":"message","id":"x","http_request":{"path":"/` + strings.Repeat("x", 70_000) + `"}}`)
	m, _, err = parseMessage(long, testLimit)
	require.NoError(t, err)
	require.True(t, m.Oversized, "the header alone is")
	require.Equal(t, "x", m.ID, "but it can be answered")
	require.NoError(t, m.Discard())

	_, _, err = parseMessage(long[:5000], testLimit)
	require.NoError(t, err)

	m, _, err = parseMessage(message(`{"method":"message","id":"x","pad":"`+strings.Repeat("x", 10_000)+`"}`), testLimit)
	require.NoError(t, err, "a header that is larger than the buffer")
	require.False(t, m.Oversized)
}

func FuzzReadMessage(f *testing.F) {
	for _, seed := range []string{
		"TWILSOCK V3.0 46\r\n" + `{"method":"message","id":"x","payload_size":3}` + "\r\nabc",
		"TWILSOCK V3.0 27\r\n" + `{"method":"reply","id":"x"}` + "\r\n",
		"TWILSOCK V3.0 2\r\n{}\r\n", "TWILSOCK V3.0 -1\r\n", "TWILSOCK V3.0 4294967295\r\n{}\r\n", "garbage", "",
		"TWILSOCK V3.0 60\r\n" + `{"method":"message","id":"x","payload_size":900000000000000}` + "\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, payload, err := parseMessage(b, testLimit)
		if err != nil {
			require.ErrorIs(t, err, ErrMalformed)
			return
		}
		require.NotEmpty(t, m.Method)
		require.LessOrEqual(t, len(payload), len(b))
		if m.Method == MethodMessage {
			m.Request() // must not panic
		}
	})
}

// The fast parser finds in a header what the careful one finds.
func FuzzHeader(f *testing.F) {
	f.Add([]byte(`{"method":"message","id":"x","payload_size":3,"http_request":{"path":"/v3/Maps"},"token":null}`))
	f.Add([]byte(`{"method":"init","id":"\ud800","continuation_token":"CT","metadata":{"sdk":"js"},"payload_size":1e2}`))
	f.Add([]byte(` {"m\u0065thod":"a\tb","x":[[],{}]} `))
	f.Add([]byte(`{"method":"a","id":"` + "\xff" + `"}`))
	f.Fuzz(func(t *testing.T, head []byte) {
		require.Equal(t, json.Valid(head), Valid(head))
		var h Header
		decoded := h.decode(head)
		var members map[string]json.RawMessage
		if json.Unmarshal(head, &members) != nil {
			require.False(t, decoded)
			return
		}
		count := 0
		gjson.ParseBytes(head).ForEach(func(gjson.Result, gjson.Result) bool {
			count++
			return true
		})
		if count != len(members) || !utf8.Valid(head) {
			return // of one name twice; the parsers repair texts each in its way
		}
		var want Header
		ok := true
		for name, to := range map[string]any{"method": &want.Method, "id": &want.ID, "token": &want.Token, "payload_size": &want.PayloadSize} {
			if raw, given := members[name]; given {
				ok = ok && json.Unmarshal(raw, to) == nil
			}
		}
		require.Equal(t, ok && want.Method != "" && want.PayloadSize >= 0, decoded)
		if decoded {
			want.Continuation, want.Metadata, want.Tweaks, want.HTTPRequest = members["continuation_token"], members["metadata"], members["tweaks"], string(members["http_request"])
			require.Equal(t, want, h)
		}
	})
}

// A text that nests as deep as a message may costs little more than the text.
func TestDeepHeaderCostsNoStack(t *testing.T) {
	for _, begin := range []string{`{"method":"reply","x":`, `{"method":"message","x":`} {
		head := []byte(begin + strings.Repeat("[", testLimit-len(begin)))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var running sync.WaitGroup
		running.Go(func() {
			require.False(t, isReply(head))
			require.False(t, new(Header).decode(head))
			runtime.ReadMemStats(&after)
		})
		running.Wait()
		require.Less(t, int64(after.StackInuse)-int64(before.StackInuse), int64(1<<20))
	}
}

// What begins like a reply is taken for one exactly if the parser of JSON finds so.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`"id":"NT","payload_type":"application/json","status":{"code":200,"status":"OK"},"payload_size":0}`))
	f.Add([]byte(`"method":"message"}`))
	f.Add([]byte(`"id":`))
	f.Fuzz(func(t *testing.T, rest []byte) {
		head := append(bytes.Clone(replyHead), rest...)
		var parsed struct{ Method json.RawMessage }
		valid := json.Unmarshal(head, &parsed) == nil
		if valid != json.Valid(head) {
			return // a member of another type does not matter
		}
		require.Equal(t, valid, isReply(head))
	})
}

func TestReplyCostsNoAllocation(t *testing.T) {
	head := `{"method":"reply","id":"NT","payload_type":"application/json","status":{"code":200,"status":"OK"},"payload_size":0}`
	frame := []byte("TWILSOCK V3.0 " + strconv.Itoa(len(head)) + "\r\n" + head + "\r\n")
	source := bytes.NewReader(nil)
	r := bufio.NewReaderSize(source, readSize)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		source.Reset(frame)
		r.Reset(source)
		if m, err := readMessage(r, testLimit); err != nil || m.Method != MethodReply {
			t.Error(m, err)
		}
	}))
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
		m, got, err := parseMessage(frame[head:], 2<<20)
		require.NoError(t, err)
		require.Equal(t, "notification", m.Method)
		require.Len(t, got, len(payload))
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"path":"/v3/Maps/x%2Fy/Items?A=b","method":"GET","params":{"From":"a%20b","Key":["1","2"]},"headers":{"If-Match":5}}`))
	f.Add([]byte(`{"path":"%","params":{"x":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !json.Valid(b) {
			return
		}
		r, err := (&Message{Header: Header{ID: "x", HTTPRequest: string(b)}}).Request()
		if err == nil {
			require.NotEmpty(t, r.Path)
			return
		}
		if _, ok := errors.AsType[*objects.Error](err); !ok {
			require.ErrorIs(t, err, ErrMalformed)
		}
		require.Empty(t, r.Path)
	})
}

func TestHeadersWhateverTheirCase(t *testing.T) {
	request := func(headers string) Request {
		r, err := (&Message{Header: Header{ID: "x", HTTPRequest: `{"path":"/v3/Maps","method":"GET","headers":` + headers + `}`}}).Request()
		require.NoError(t, err)
		return r
	}
	for headers, want := range map[string]Request{
		`{"Twilio-Request-Id":"RQ1","If-Match":"1","traceparent":"00"}`: {RequestID: "RQ1", IfMatch: "1", Traceparent: "00"},
		`{"twilio-request-id":"RQ1","IF-MATCH":5,"Traceparent":null}`:   {RequestID: "RQ1", IfMatch: "5"},
		`{"if-match":["1","2"],"If-Matches":"3","Content-Type":"x"}`:    {IfMatch: "1"},
		`{"If-Match":"1","if-match":"2"}`:                               {IfMatch: "1"}, // as it is spelled
		`{"if-match":"1","IF-MATCH":"2"}`:                               {IfMatch: "2"}, // or the last one
		`null`:                                                          {},
	} {
		got := request(headers)
		require.Equal(t, want, Request{RequestID: got.RequestID, IfMatch: got.IfMatch, Traceparent: got.Traceparent}, headers)
	}
}
