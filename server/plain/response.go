package plain

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// response collects an answer, so that it is one write.
type response struct {
	conn   *conn
	header http.Header // nil: empty

	status  int    // 0: not known yet
	head    []byte // the rendered header
	body    []byte
	length  int  // as the header says; -1: it does not
	untyped bool // the header has no Content-Type
	close   bool // after the answer
	sent    bool
	goesOn  bool // the connection serves on
}

func (w *response) reset() {
	clear(w.header)
	*w = response{conn: w.conn, header: w.header, length: -1}
}

// Header implements http.ResponseWriter.
func (w *response) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.untyped = w.header["Content-Type"] == nil && w.header.Get("Content-Encoding") == ""
	w.close = w.header.Get("Connection") == "close"
	if n, err := strconv.Atoi(w.header.Get("Content-Length")); err == nil && n >= 0 {
		w.length = n
	}
	w.head = w.appendHeader(nil)
}

// appendHeader renders the header as net/http does: by name, without what the
// status forbids.
func (w *response) appendHeader(b []byte) []byte {
	names := make([]string, 0, 16)
	for name := range w.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch {
		case !consistsOf(name, &tokenBytes), name == "Transfer-Encoding":
			continue
		case name == "Content-Length" && (w.length < 0 || !hasBody(w.status)), name == "Content-Type" && w.status == http.StatusNotModified:
			continue
		}
		for _, value := range w.header[name] {
			b = append(append(b, name...), ": "...)
			b = append(append(b, strings.Trim(oneLine.Replace(value), " \t\r\n")...), "\r\n"...)
		}
	}
	return b
}

var oneLine = strings.NewReplacer("\n", " ", "\r", " ")

// hasBody reports whether answers with a status have a body.
func hasBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case !hasBody(w.status):
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && len(w.body)+len(b) > w.length:
		return 0, http.ErrContentLength
	}
	w.body = append(w.body, b...)
	return len(b), nil
}

// WriteAnswer sends a whole answer at once: WriteHeader and Write with a header
// that is rendered, by name and with the length of the body. It keeps neither
// slice. What Header has does not count, and nothing can follow.
func (w *response) WriteAnswer(status int, header, body []byte) {
	w.status, w.head, w.body, w.length = status, header, body, len(body)
	w.send()
	w.head, w.body = nil, nil
}

// together is up to which size head and body are one write.
const together = 16 << 10

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// send sends the answer, once.
func (w *response) send() {
	if w.sent {
		return
	}
	w.sent = true
	w.WriteHeader(http.StatusOK)
	last := w.conn.server.stopping.Load()
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	b := appendStatus((*buffer)[:0], w.status)
	b = append(b, w.head...)
	b = append(append(b, "Date: "...), date()...)
	if w.length < 0 && hasBody(w.status) {
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(w.body)), 10), "\r\n"...)
	}
	if w.untyped && len(w.body) > 0 {
		b = append(append(append(b, "Content-Type: "...), http.DetectContentType(w.body)...), "\r\n"...)
	}
	if last && !w.close {
		b = append(b, "Connection: close\r\n"...)
	}
	b = append(b, "\r\n"...)
	rest := w.body
	if len(rest) <= together {
		b, rest = append(b, rest...), nil
	}
	*buffer = b
	_, err := w.conn.net.Write(b)
	if err == nil && len(rest) > 0 {
		_, err = w.conn.net.Write(rest)
	}
	complete := w.length < 0 || w.length == len(w.body) || !hasBody(w.status)
	w.goesOn = err == nil && complete && !last && !w.close
}

func appendStatus(b []byte, status int) []byte {
	switch status {
	case http.StatusOK:
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	case http.StatusCreated:
		return append(b, "HTTP/1.1 201 Created\r\n"...)
	case http.StatusNoContent:
		return append(b, "HTTP/1.1 204 No Content\r\n"...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = append(strconv.AppendInt(b, int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		return append(append(b, text...), "\r\n"...)
	}
	return append(strconv.AppendInt(append(b, "status code "...), int64(status), 10), "\r\n"...)
}

// dated is the value of the Date header in one second.
type dated struct {
	second int64
	line   string
}

var lastDate atomic.Pointer[dated]

// date returns the value of the Date header, with the end of its line.
func date() string {
	now := time.Now()
	if last := lastDate.Load(); last != nil && last.second == now.Unix() {
		return last.line
	}
	d := &dated{now.Unix(), now.UTC().Format(http.TimeFormat) + "\r\n"}
	lastDate.Store(d)
	return d.line
}
