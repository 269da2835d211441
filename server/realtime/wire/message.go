package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"

	"github.com/tidwall/gjson"
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
	MethodInit      = "init"
	MethodUpdate    = "update"
	MethodClose     = "close"
	MethodReply     = "reply"
	MethodMessage   = "message"
	MethodTelemetry = "telemetry.v1"
	MethodPing      = "ping"
	MethodPutCtx    = "put_notification_ctx"
	MethodDeleteCtx = "delete_notification_ctx"
)

// ErrMalformed says that something is not a message of the protocol.
var ErrMalformed = errors.New("not a message of the protocol")

// Message is what a client sent. Its header has been read; its payload is read,
// or passed over, when it is known whether it is wanted.
type Message struct {
	Header
	Size      int  // of header and payload, as declared
	Oversized bool // beyond the limit of a message; of the header, method and id may be all that is known
	rest      *bufio.Reader
}

// Header has the members that the server reads.
type Header struct {
	Method       string
	ID           string
	Token        string
	Continuation json.RawMessage // continuation_token
	Metadata     json.RawMessage // of the client, in its first message
	Tweaks       json.RawMessage // likewise: what its application sets
	PayloadSize  int
	HTTPRequest  string // JSON; empty: none
}

// decode reads a header, in one pass, and reports whether it is one.
func (h *Header) decode(head []byte) bool {
	if !Valid(head) {
		return false
	}
	return members(gjson.ParseBytes(head), h.take) && h.Method != "" && h.PayloadSize >= 0
}

// take reads one member, and reports whether it is well formed.
func (h *Header) take(name string, value gjson.Result) bool {
	switch name {
	case "method":
		return setText(&h.Method, value)
	case "id":
		return setText(&h.ID, value)
	case "token":
		return setText(&h.Token, value)
	case "continuation_token":
		h.Continuation = json.RawMessage(value.Raw)
	case "metadata":
		h.Metadata = json.RawMessage(value.Raw)
	case "tweaks":
		h.Tweaks = json.RawMessage(value.Raw)
	case "payload_size":
		if value.Type != gjson.Null {
			var err error
			h.PayloadSize, err = strconv.Atoi(value.Raw)
			return err == nil
		}
	case "http_request":
		h.HTTPRequest = value.Raw
	}
	return true
}

// readMessage reads the header of one message. Bytes behind the payload are
// ignored, as some clients end it with a line. Sizes are looked at as they are
// declared: nothing that is beyond the limit is kept. ErrMalformed says that this
// is no message; any other error is the connection's.
//
// Of a reply, nothing but the method is read: clients send one for every
// message that they get, and those are most of what comes in.
func readMessage(r *bufio.Reader, limit int) (Message, error) {
	size, err := readHeaderSize(r)
	if err != nil {
		return Message{}, err
	}
	if size > limit {
		return Message{Size: size, rest: r}.beginning()
	}
	head, err := readHeader(r, size)
	if err != nil {
		return Message{}, err
	}
	if isReply(head) {
		return Message{Header: Header{Method: MethodReply}, rest: r}, nil
	}
	m := Message{Size: size, rest: r}
	if !m.decode(head) {
		return Message{}, ErrMalformed
	}
	m.Oversized = m.PayloadSize > limit-size
	m.Size += m.PayloadSize
	return m, nil
}

// replyHead begins the header of a reply by all known clients.
var replyHead = []byte(`{"method":"reply",`)

// isReply reports whether a header is that of a reply. If it begins as they do, that
// costs no allocation.
func isReply(head []byte) bool {
	return (bytes.HasPrefix(head, replyHead) || gjson.GetBytes(head, "method").Str == MethodReply) && Valid(head)
}

// beginning reads of a header that is too large what is needed to answer it.
func (m Message) beginning() (Message, error) {
	head, err := m.rest.Peek(m.rest.Size())
	if err := inMessage(err); err != nil && !errors.Is(err, ErrMalformed) {
		return Message{}, err
	}
	found := gjson.GetManyBytes(head, "method", "id")
	m.Method, m.ID, m.Oversized = found[0].Str, found[1].Str, true
	if m.Method == "" || m.ID == "" {
		return Message{}, ErrMalformed
	}
	m.PayloadSize = m.Size + len(lineEnd) // what is left to pass over, at least
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
				return 0, ErrMalformed
			}
			continue
		}
		number, ok := bytes.CutSuffix(line[:n+1], lineEnd)
		if !ok || len(number) <= len(magic) {
			return 0, ErrMalformed
		}
		size, err := strconv.ParseUint(string(number[len(magic):]), 10, 32)
		if err != nil {
			return 0, ErrMalformed
		}
		return int(size), nil
	}
	return 0, ErrMalformed
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
		return nil, ErrMalformed
	}
	return head[:size], nil
}

// Payload reads the payload.
func (m *Message) Payload() ([]byte, error) {
	b := make([]byte, m.PayloadSize)
	_, err := io.ReadFull(m.rest, b)
	return b, inMessage(err)
}

// Discard passes over the payload without keeping it.
func (m *Message) Discard() error {
	_, err := io.CopyN(io.Discard, m.rest, int64(m.PayloadSize))
	return inMessage(err)
}

// inMessage tells the end of a message, which is too early inside of what it
// declares, from that of the connection.
func inMessage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrMalformed
	}
	return err
}
