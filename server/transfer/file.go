package transfer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// Format is the number of the form of files that this release writes, and the newest
// that it reads.
const Format = 1

// Header is the first line of a file.
type Header struct {
	Format  int    `json:"lockstep_export"`
	Source  string `json:"source"`  // where it was read
	Created string `json:"created"` // when that began
}

// trailer is the last line.
type trailer struct {
	Kind   string `json:"kind"` // "end"
	Lines  int    `json:"lines"`
	SHA256 string `json:"sha256"` // of all lines before it
}

const end = "end"

// Writer writes a file: a header, one line a record, and a last line with the number
// of records and the SHA-256 of all before it, without which a file is not whole. A
// service comes before its objects, an object before its items and permissions.
type Writer struct {
	w     *bufio.Writer
	sum   hash.Hash
	lines int
}

// NewWriter begins a file.
func NewWriter(w io.Writer, source string, now time.Time) (*Writer, error) {
	out := &Writer{w: bufio.NewWriterSize(w, 256<<10), sum: sha256.New()}
	return out, out.line(Header{Format: Format, Source: source, Created: now.UTC().Format(time.RFC3339)})
}

// Write writes a record.
func (w *Writer) Write(r *Record) error {
	w.lines++
	return w.line(r)
}

// Close ends the file.
func (w *Writer) Close() error {
	if err := w.line(trailer{end, w.lines, hex.EncodeToString(w.sum.Sum(nil))}); err != nil {
		return err
	}
	return w.w.Flush()
}

func (w *Writer) line(value any) error {
	b, err := Line(value)
	if err != nil {
		return err
	}
	w.sum.Write(b)
	_, err = w.w.Write(b)
	return err
}

// Line returns a value as one line of JSON, with < and > as they are.
func Line(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("write a record: %w", err)
	}
	return b.Bytes(), nil
}

// MaxLine is more than a line has: a document is 16 KiB of JSON.
const MaxLine = 1 << 20

// ErrFile is wrapped by every error about a file that is damaged or no export.
var ErrFile = errors.New("not a whole export")

// Reader reads a file.
type Reader struct {
	lines  *bufio.Scanner
	sum    hash.Hash
	number int // of the line that was read last
	header Header
}

// NewReader reads the beginning of a file.
func NewReader(r io.Reader) (*Reader, error) {
	in := &Reader{lines: bufio.NewScanner(r), sum: sha256.New()}
	in.lines.Buffer(make([]byte, 0, 64<<10), MaxLine)
	line, err := in.line()
	if err != nil {
		return nil, err
	}
	switch err := json.Unmarshal(line, &in.header); {
	case err != nil || in.header.Format == 0:
		return nil, fmt.Errorf("%w: its first line is not the header of one", ErrFile)
	case in.header.Format > Format:
		return nil, fmt.Errorf("%w that this release reads: it is of form %d, and this one reads up to %d", ErrFile, in.header.Format, Format)
	}
	in.add(line)
	return in, nil
}

// Header returns the file's first line.
func (r *Reader) Header() Header { return r.header }

// Read returns the next record; io.EOF at the end of a whole file.
func (r *Reader) Read() (*Record, error) {
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	rec := new(Record)
	if err := json.Unmarshal(line, rec); err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrFile, r.number, err)
	}
	if rec.Kind != end {
		r.add(line)
		return rec, nil
	}
	var t trailer
	if err := json.Unmarshal(line, &t); err != nil || t.Lines != r.number-2 || t.SHA256 != hex.EncodeToString(r.sum.Sum(nil)) {
		return nil, fmt.Errorf("%w: what is before line %d is not what was written", ErrFile, r.number)
	}
	if r.lines.Scan() {
		return nil, fmt.Errorf("%w: there is something behind its end", ErrFile)
	}
	return nil, io.EOF
}

func (r *Reader) line() ([]byte, error) {
	r.number++
	if r.lines.Scan() {
		return r.lines.Bytes(), nil
	}
	if err := r.lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrFile, r.number, err)
	}
	return nil, fmt.Errorf("%w: it ends before line %d", ErrFile, r.number)
}

func (r *Reader) add(line []byte) {
	r.sum.Write(line)
	r.sum.Write([]byte{'\n'})
}
