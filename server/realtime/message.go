package realtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/tidwall/gjson"

	"lockstep/objects"
)

// The framing of the protocol (realtime protocol, part 1):
//
//	TWILSOCK V3.0 <n>\r\n
//	<header: n bytes of JSON>\r\n
//	<payload: header.payload_size bytes>
var (
	magic   = []byte("TWILSOCK V3.0 ")
	lineEnd = []byte("\r\n")
)

// The methods that clients send (parts 2 and 3).
const (
	methodInit      = "init"
	methodUpdate    = "update"
	methodClose     = "close"
	methodReply     = "reply"
	methodMessage   = "message"
	methodTelemetry = "telemetry.v1"
	methodPing      = "ping"
	methodPutCtx    = "put_notification_ctx"
	methodDeleteCtx = "delete_notification_ctx"
)

var errMessage = errors.New("not a message of the protocol")

// message is what a client sent.
type message struct {
	header
	payload []byte // of the bytes that were parsed
}

// header has the members that the server reads.
type header struct {
	Method       string          `json:"method"`
	ID           string          `json:"id"`
	Token        string          `json:"token"`
	Continuation json.RawMessage `json:"continuation_token"`
	PayloadSize  int             `json:"payload_size"`
	HTTPRequest  json.RawMessage `json:"http_request"`
}

// parseMessage reads one message. Bytes behind the payload are ignored, as some
// clients end it with a line.
//
// Of a reply, nothing but the method is read: clients send one for every
// message that they get, and those are most of what comes in.
func parseMessage(b []byte) (message, error) {
	head, rest, err := cutHeader(b)
	if err != nil {
		return message{}, err
	}
	if gjson.GetBytes(head, "method").Str == methodReply && gjson.ValidBytes(head) {
		return message{header: header{Method: methodReply}}, nil
	}
	var m message
	if err := json.Unmarshal(head, &m.header); err != nil || m.Method == "" {
		return message{}, errMessage
	}
	if m.PayloadSize < 0 || m.PayloadSize > len(rest) {
		return message{}, errMessage
	}
	m.payload = rest[:m.PayloadSize]
	return m, nil
}

// cutHeader takes the header off a message.
func cutHeader(b []byte) (head, rest []byte, err error) {
	b, ok := bytes.CutPrefix(b, magic)
	if !ok {
		return nil, nil, errMessage
	}
	line, b, ok := bytes.Cut(b, lineEnd)
	if !ok || len(line) == 0 || len(line) > 7 {
		return nil, nil, errMessage
	}
	n, err := strconv.ParseUint(string(line), 10, 32)
	if err != nil || n > uint64(len(b)) || !bytes.HasPrefix(b[n:], lineEnd) {
		return nil, nil, errMessage
	}
	return b[:n], b[n+2:], nil
}

// appendMessage appends a message as a complete websocket frame, ready to be
// written and to be shared. header is the JSON object without the payload's
// size and its closing brace.
func appendMessage(b, header, payload []byte) []byte {
	var tail [64]byte
	end := tail[:0]
	if len(payload) > 0 {
		end = append(end, `,"payload_type":"application/json"`...)
	}
	end = append(end, `,"payload_size":`...)
	end = strconv.AppendInt(end, int64(len(payload)), 10)
	end = append(end, '}')

	var digits [20]byte
	size := strconv.AppendInt(digits[:0], int64(len(header)+len(end)), 10)
	b = appendFrameHeader(b, opBinary, len(magic)+len(size)+len(header)+len(end)+len(payload)+2*len(lineEnd))
	b = append(b, magic...)
	b = append(b, size...)
	b = append(b, lineEnd...)
	b = append(b, header...)
	b = append(b, end...)
	b = append(b, lineEnd...)
	return append(b, payload...)
}

// appendHead begins a header with a method and an id.
func appendHead(b []byte, method, id string) []byte {
	b = append(b, `{"method":"`...)
	b = append(b, method...)
	b = append(b, `","id":`...)
	return objects.AppendString(b, id)
}

// appendStatus appends a status member to a header.
func appendStatus(b []byte, member string, code int, text string) []byte {
	b = append(b, `,"`...)
	b = append(b, member...)
	b = append(b, `":{"code":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"status":`...)
	b = objects.AppendString(b, text)
	return append(b, '}')
}

// replyMessage answers a message that has no more to say than a status.
func replyMessage(id string, code int, text string) []byte {
	return appendMessage(nil, appendStatus(appendHead(nil, methodReply, id), "status", code, text), nil)
}

// closeMessage tells a client why its session ends (part 2.3).
func closeMessage(code int, text string) []byte {
	return appendMessage(nil, appendStatus(appendHead(nil, methodClose, randomID("CL")), "status", code, text), nil)
}

// pingMessage asks a client for a sign of life (part 2.4).
func pingMessage() []byte {
	return appendMessage(nil, appendHead(nil, methodPing, randomID("PI")), nil)
}

// expiryMessage tells that the token is about to expire (part 2.2).
func expiryMessage() []byte {
	h := appendHead(nil, "client_update", randomID("CU"))
	return appendMessage(nil, append(h, `,"client_update_type":"token_about_to_expire"`...), nil)
}
