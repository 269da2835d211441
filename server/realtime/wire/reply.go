package wire

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"lockstep/objects"
)

// NewID returns an id that nothing else has, behind a prefix.
func NewID(prefix string) string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

// appendMessage appends a message as a complete websocket frame, ready to be
// written and to be shared. header is the JSON object without the payload's
// size and its closing brace.
func appendMessage(b, header, payload []byte) []byte {
	return append(beginMessage(b, header, len(payload)), payload...)
}

// beginMessage appends what stands before a payload of so many bytes, and makes room
// for it.
func beginMessage(b, header []byte, payload int) []byte {
	var tail [64]byte
	end := tail[:0]
	if payload > 0 {
		end = append(end, `,"payload_type":"application/json"`...)
	}
	end = append(end, `,"payload_size":`...)
	end = strconv.AppendInt(end, int64(payload), 10)
	end = append(end, '}')

	var digits [20]byte
	size := strconv.AppendInt(digits[:0], int64(len(header)+len(end)), 10)
	length := len(magic) + len(size) + len(header) + len(end) + payload + 2*len(lineEnd)
	b = appendFrameHeader(slices.Grow(b, maxFrameHeader+length), opBinary, length)
	b = append(b, magic...)
	b = append(b, size...)
	b = append(b, lineEnd...)
	b = append(b, header...)
	b = append(b, end...)
	return append(b, lineEnd...)
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

// headerRoom is as much as most headers have: they are made on the stack.
const headerRoom = 256

// Reply answers a message that has no more to say than a status.
func Reply(id string, code int, text string) []byte {
	var room [headerRoom]byte
	return appendMessage(nil, appendStatus(appendHead(room[:0], MethodReply, id), "status", code, text), nil)
}

// TooMany answers a message that is not served because there were too many. It
// tells clients how long to stay away (part 9).
func TooMany(id string, wait time.Duration) []byte {
	h := appendStatus(appendHead(nil, MethodReply, id), "status", 429, "TOO_MANY_REQUESTS")
	return appendMessage(nil, h, AppendBackoff([]byte("{"), wait))
}

// AppendBackoff appends the member that tells how long to wait, and ends the
// object that it is in.
func AppendBackoff(b []byte, wait time.Duration) []byte {
	b = append(b, `"backoff_policy":{"reconnect_min_ms":`...)
	b = strconv.AppendInt(b, max(wait, time.Second).Milliseconds(), 10)
	return append(b, "}}"...)
}

// Answer answers a request in the tunnel. body is JSON, or empty.
func Answer(id string, status int, body []byte) []byte {
	var room [headerRoom]byte
	h := appendStatus(appendHead(room[:0], MethodReply, id), "status", 200, "OK")
	h = appendStatus(h, "http_status", status, http.StatusText(status))
	h = append(h, `,"http_headers":{}`...)
	return appendMessage(nil, h, body)
}

// Ping asks a client for a sign of life (part 2.4).
func Ping() []byte { return appendMessage(nil, appendHead(nil, MethodPing, NewID("PI")), nil) }

// TokenAboutToExpire says so of the client's token (part 2.2).
func TokenAboutToExpire() []byte {
	h := appendHead(nil, "client_update", NewID("CU"))
	return appendMessage(nil, append(h, `,"client_update_type":"token_about_to_expire"`...), nil)
}

// AppendGoodbye appends the message that ends a session (part 2.3). A backoff that
// is not zero is how long the client stays away.
func AppendGoodbye(b []byte, code int, status string, backoff time.Duration) []byte {
	h := appendStatus(appendHead(nil, MethodClose, NewID("CL")), "status", code, status)
	var payload []byte
	if backoff > 0 {
		payload = AppendBackoff([]byte("{"), backoff)
	}
	return appendMessage(b, h, payload)
}

// Welcome is what a client is told that is let in (part 2.1; the account
// descriptor is for mobile clients, part 9).
type Welcome struct {
	Continuation string // token of the client's connections
	Reissued     bool   // that is another one than the client has sent
	StorageID    string // of a browser's cache
	Account      string // SID
	Service      objects.SID
	Identity     string
}

// Reply answers an init.
func (w *Welcome) Reply(id string) []byte {
	type status struct {
		Code   int    `json:"code"`
		Status string `json:"status"`
	}
	type reissued struct {
		Reissued bool `json:"reissued"`
	}
	type storage struct {
		ID string `json:"storage_id"`
	}
	type product struct {
		Product string `json:"product"`
	}
	type account struct {
		SID       string            `json:"account_sid"`
		Instances map[string]string `json:"instance_sids"`
		Identity  string            `json:"identity"`
	}
	h, err := json.Marshal(struct {
		Method       string             `json:"method"`
		ID           string             `json:"id"`
		Status       status             `json:"status"`
		Continuation string             `json:"continuation_token"`
		Reissued     reissued           `json:"continuation_token_status"`
		Capabilities []string           `json:"capabilities"`
		Storage      map[string]storage `json:"offline_storage"`
		Products     []product          `json:"init_registrations"`
		Debug        struct{}           `json:"debug_info"`
		Account      account            `json:"account_descriptor"`
	}{
		Method: MethodReply, ID: id, Status: status{200, "OK"},
		Continuation: w.Continuation, Reissued: reissued{w.Reissued},
		Capabilities: []string{"client_update", "offline_storage", "account_descriptor"},
		Storage:      map[string]storage{dataSync: {w.StorageID}},
		Products:     []product{{dataSync}},
		Account:      account{w.Account, map[string]string{dataSync: w.Service.String()}, w.Identity},
	})
	if err != nil {
		panic(err) // strings and a bool
	}
	return appendMessage(nil, h[:len(h)-1], nil)
}

// dataSync is the product that clients of Sync ask for.
const dataSync = "data_sync"

// Rejection answers an init, or another token, that is not accepted. The client
// looks at the code of the status, and tells the application the error's (part
// 2.1).
func Rejection(id string, e *objects.Error) []byte {
	text := "UNAUTHORIZED"
	var payload []byte
	switch e.Status {
	case 401:
	case 429:
		text = "TOO_MANY_REQUESTS"
		payload = AppendBackoff([]byte("{"), time.Duration(e.RetryAfter)*time.Second)
	default:
		text = "UNAVAILABLE"
	}
	h := appendStatus(appendHead(nil, MethodReply, id), "status", e.Status, text)
	h = append(h[:len(h)-1], `,"description":`...)
	h = objects.AppendString(h, e.Message)
	h = append(h, `,"errorCode":`...)
	h = strconv.AppendInt(h, int64(e.Code), 10)
	return appendMessage(nil, append(h, '}'), payload)
}
