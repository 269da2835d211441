package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"lockstep/objects"
)

// The framing of the protocol (realtime protocol, part 1):
//
//	TWILSOCK V3.0 <n>\r\n
//	<header: n bytes of JSON>\r\n
//	<payload: header.payload_size bytes>
var (
	magic = []byte("TWILSOCK V3.0 ")
	crlf  = []byte("\r\n")
)

var errMessage = errors.New("not a message of the protocol")

// message is what a client sent.
type message struct {
	header
	payload []byte
}

// header has the members that the server reads.
type header struct {
	Method      string       `json:"method"`
	ID          string       `json:"id"`
	Token       string       `json:"token"`
	PayloadSize int          `json:"payload_size"`
	HTTPRequest *httpRequest `json:"http_request"`
}

// httpRequest is a request in the tunnel. Path and parameters are percent-encoded.
type httpRequest struct {
	Path    string           `json:"path"`
	Method  string           `json:"method"`
	Params  map[string]param `json:"params"`
	Headers map[string]param `json:"headers"`
}

// param is one parameter or header: a text, a number, or several of them, of
// which the first counts.
type param string

// UnmarshalJSON implements json.Unmarshaler.
func (p *param) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var many []json.RawMessage
		if err := json.Unmarshal(b, &many); err != nil {
			return err
		}
		if len(many) == 0 {
			return nil
		}
		b = many[0]
	}
	if len(b) > 0 && (b[0] == '"' || b[0] == 'n') {
		return json.Unmarshal(b, (*string)(p)) // null leaves it empty
	}
	*p = param(b)
	return nil
}

// isAcknowledgement tells, without decoding it, the reply that clients send to
// every delivered event. Those are most of what comes in.
func isAcknowledgement(b []byte) bool {
	rest, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return false
	}
	_, rest, _ = bytes.Cut(rest, crlf)
	header, _, _ := bytes.Cut(rest[:min(len(rest), 160)], crlf)
	return bytes.Contains(header, []byte(`"method":"reply"`))
}

// parseMessage reads one frame. Bytes behind the payload are ignored, as some
// clients end it with a line.
func parseMessage(b []byte) (message, error) {
	rest, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return message{}, errMessage
	}
	line, rest, ok := bytes.Cut(rest, crlf)
	if !ok || len(line) > 7 {
		return message{}, errMessage
	}
	n, err := strconv.ParseUint(string(line), 10, 32)
	if err != nil || uint64(len(rest)) < n+2 || rest[n] != '\r' || rest[n+1] != '\n' {
		return message{}, errMessage
	}
	var m message
	if err := json.Unmarshal(rest[:n], &m.header); err != nil || m.Method == "" {
		return message{}, errMessage
	}
	rest = rest[n+2:]
	if m.PayloadSize < 0 || m.PayloadSize > len(rest) {
		return message{}, errMessage
	}
	m.payload = rest[:m.PayloadSize]
	return m, nil
}

// frame gives the bytes of a websocket binary message that carries a message
// of the protocol: ready to be written, and to be shared.
func frame(header, payload []byte) []byte {
	size := strconv.Itoa(len(header))
	n := len(magic) + len(size) + 2 + len(header) + 2 + len(payload)
	b := appendWebsocketHeader(make([]byte, 0, n+10), opBinary, n)
	b = append(b, magic...)
	b = append(b, size...)
	b = append(b, "\r\n"...)
	b = append(b, header...)
	b = append(b, "\r\n"...)
	return append(b, payload...)
}

// The opcodes of RFC 6455 that the server sends.
const (
	opBinary = 0x2
	opClose  = 0x8
	opPong   = 0xA
)

// appendWebsocketHeader appends the header of an unmasked, final frame (RFC
// 6455, 5.2).
func appendWebsocketHeader(b []byte, op byte, size int) []byte {
	b = append(b, 0x80|op)
	switch {
	case size < 126:
		return append(b, byte(size))
	case size < 1<<16:
		return append(b, 126, byte(size>>8), byte(size))
	}
	return append(b, 127, 0, 0, 0, 0, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// replyFrame answers a message under its id. status is the transport's.
func replyFrame(id string, code int, status, extra string, payload []byte) []byte {
	h := make([]byte, 0, 160+len(id)+len(extra))
	h = append(h, `{"method":"reply","id":`...)
	h = objects.AppendString(h, id)
	h = append(h, `,"status":{"code":`...)
	h = strconv.AppendInt(h, int64(code), 10)
	h = append(h, `,"status":`...)
	h = objects.AppendString(h, status)
	h = append(h, '}')
	h = append(h, extra...)
	h = appendPayloadSize(h, payload)
	return frame(append(h, '}'), payload)
}

func appendPayloadSize(h, payload []byte) []byte {
	if len(payload) > 0 {
		h = append(h, `,"payload_type":"application/json"`...)
	}
	h = append(h, `,"payload_size":`...)
	return strconv.AppendInt(h, int64(len(payload)), 10)
}

// closeFrame tells a client why its session ends (part 2.3).
func closeFrame(code int, status string) []byte {
	h := append([]byte(`{"method":"close","id":"close","status":{"code":`), strconv.Itoa(code)...)
	h = append(h, `,"status":`...)
	h = objects.AppendString(h, status)
	return frame(append(h, `},"payload_size":0}`...), nil)
}
