package realtime

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"time"

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

// message is what a client sent. Its header has been read; its payload is read,
// or passed over, when it is known whether it is wanted.
type message struct {
	header
	size      int  // of header and payload, as declared
	oversized bool // beyond the limit of a message; of the header, method and id may be all that is known
	rest      *bufio.Reader
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

// readMessage reads the header of one message. Bytes behind the payload are
// ignored, as some clients end it with a line. Sizes are looked at as they are
// declared: nothing that is beyond the limit is kept. errMessage says that this
// is no message; any other error is the connection's.
//
// Of a reply, nothing but the method is read: clients send one for every
// message that they get, and those are most of what comes in.
func readMessage(r *bufio.Reader, limit int) (message, error) {
	m := message{rest: r}
	size, err := readHeaderSize(r)
	if err != nil {
		return message{}, err
	}
	m.size = size
	if size > limit {
		return m.beginning()
	}
	head, err := readHeader(r, size)
	if err != nil {
		return message{}, err
	}
	if gjson.GetBytes(head, "method").Str == methodReply && gjson.ValidBytes(head) {
		return message{header: header{Method: methodReply}, rest: r}, nil
	}
	if err := json.Unmarshal(head, &m.header); err != nil || m.Method == "" || m.PayloadSize < 0 {
		return message{}, errMessage
	}
	m.oversized = m.PayloadSize > limit-size
	m.size += m.PayloadSize
	return m, nil
}

// beginning reads of a header that is too large what is needed to answer it.
func (m message) beginning() (message, error) {
	head, err := m.rest.Peek(m.rest.Size())
	if err := inMessage(err); err != nil && !errors.Is(err, errMessage) {
		return message{}, err
	}
	found := gjson.GetManyBytes(head, "method", "id")
	m.Method, m.ID, m.oversized = found[0].Str, found[1].Str, true
	if m.Method == "" || m.ID == "" {
		return message{}, errMessage
	}
	m.PayloadSize = m.size + len(lineEnd) // what is left to pass over, at least
	return m, nil
}

// readHeaderSize reads the first line.
func readHeaderSize(r *bufio.Reader) (int, error) {
	const digits = 7
	var line [len("TWILSOCK V3.0 ") + digits + 2]byte
	for n := range line {
		c, err := r.ReadByte()
		if err != nil {
			return 0, inMessage(err)
		}
		if line[n] = c; c != '\n' {
			if n < len(magic) && c != magic[n] {
				return 0, errMessage
			}
			continue
		}
		number, ok := bytes.CutSuffix(line[:n+1], lineEnd)
		if !ok || len(number) <= len(magic) {
			return 0, errMessage
		}
		size, err := strconv.ParseUint(string(number[len(magic):]), 10, 32)
		if err != nil {
			return 0, errMessage
		}
		return int(size), nil
	}
	return 0, errMessage
}

// readHeader reads the header and the line end behind it. The bytes are valid
// until the next read.
func readHeader(r *bufio.Reader, size int) ([]byte, error) {
	var head []byte
	if whole := size + len(lineEnd); whole <= r.Size() {
		b, err := r.Peek(whole)
		if err != nil {
			return nil, inMessage(err)
		}
		r.Discard(whole) // has been read: cannot fail
		head = b
	} else {
		// It grows with what arrives: what is declared costs nothing to send.
		var b bytes.Buffer
		if _, err := io.CopyN(&b, r, int64(whole)); err != nil {
			return nil, inMessage(err)
		}
		head = b.Bytes()
	}
	if !bytes.HasSuffix(head, lineEnd) {
		return nil, errMessage
	}
	return head[:size], nil
}

// payload reads the payload.
func (m *message) payload() ([]byte, error) {
	b := make([]byte, m.PayloadSize)
	_, err := io.ReadFull(m.rest, b)
	return b, inMessage(err)
}

// discard passes over the payload without keeping it.
func (m *message) discard() error {
	_, err := io.CopyN(io.Discard, m.rest, int64(m.PayloadSize))
	return inMessage(err)
}

// inMessage tells the end of a message, which is too early inside of what it
// declares, from that of the connection.
func inMessage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errMessage
	}
	return err
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

// tooManyMessage answers a message that is not served because there were too
// many. It tells clients how long to stay away (part 9).
func tooManyMessage(id string, wait time.Duration) []byte {
	h := appendStatus(appendHead(nil, methodReply, id), "status", 429, "TOO_MANY_REQUESTS")
	return appendMessage(nil, h, appendBackoff([]byte("{"), wait))
}

// appendBackoff appends the member that tells how long to wait, and ends the
// object that it is in.
func appendBackoff(b []byte, wait time.Duration) []byte {
	b = append(b, `"backoff_policy":{"reconnect_min_ms":`...)
	b = strconv.AppendInt(b, max(wait, time.Second).Milliseconds(), 10)
	return append(b, "}}"...)
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
