package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// A record is one batch:
//
//	magic    4 bytes
//	checksum 4 bytes, CRC-32C of all that follows
//	length   4 bytes, of the entries
//	number   8 bytes; the next record has the next one, in whichever file
//	entries
//
// and an entry is its index, term and time (Unix nanoseconds, 0: none), of 8 bytes each,
// its type of one byte, and its data and extensions, each after its length in 4 bytes.
// Numbers are little endian.
const (
	magic      = "LSJ1"
	headerSize = 20
	fixedSize  = 8 + 8 + 8 + 1 + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends the record of a batch to a buffer.
func appendRecord(b []byte, number uint64, entries []*raft.Log) []byte {
	begin := len(b)
	b = append(b, magic...)
	b = append(b, make([]byte, headerSize-len(magic))...)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint64(b, e.Index)
		b = binary.LittleEndian.AppendUint64(b, e.Term)
		var at int64
		if !e.AppendedAt.IsZero() {
			at = e.AppendedAt.UnixNano()
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
		b = append(b, byte(e.Type))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.Extensions)))
		b = append(b, e.Extensions...)
	}
	record := b[begin:]
	binary.LittleEndian.PutUint32(record[8:], uint32(len(record)-headerSize))
	binary.LittleEndian.PutUint64(record[12:], number)
	binary.LittleEndian.PutUint32(record[4:], crc32.Checksum(record[8:], castagnoli))
	return b
}

// recordSize returns the size of the record of a batch.
func recordSize(entries []*raft.Log) int64 {
	size := headerSize
	for _, e := range entries {
		size += fixedSize + len(e.Data) + len(e.Extensions)
	}
	return int64(size)
}

// cutRecord returns the record at the beginning of b, and its size.
func cutRecord(b []byte) (number uint64, entries []byte, size int, ok bool) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return 0, nil, 0, false
	}
	length := uint64(binary.LittleEndian.Uint32(b[8:]))
	if length > uint64(len(b)-headerSize) {
		return 0, nil, 0, false
	}
	size = headerSize + int(length)
	if crc32.Checksum(b[8:size], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, 0, false
	}
	return binary.LittleEndian.Uint64(b[12:]), b[headerSize:size], size, true
}

var errForm = errors.New("a record that matches its checksum is none")

func parseEntries(b []byte) (entries []*raft.Log, err error) {
	for len(b) > 0 {
		if len(b) < fixedSize {
			return nil, errForm
		}
		e := &raft.Log{Index: binary.LittleEndian.Uint64(b), Term: binary.LittleEndian.Uint64(b[8:]), Type: raft.LogType(b[24])}
		if at := int64(binary.LittleEndian.Uint64(b[16:])); at != 0 {
			e.AppendedAt = time.Unix(0, at)
		}
		b = b[25:]
		for _, part := range []*[]byte{&e.Data, &e.Extensions} {
			if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
				return nil, errForm
			}
			end := 4 + int(binary.LittleEndian.Uint32(b))
			if end > 4 {
				*part = b[4:end:end]
			}
			b = b[end:]
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// records are those of one file, from its beginning on.
type records struct {
	first, next uint64 // numbers: of the first one, and of the one that would follow
	entries     []*raft.Log
	rest        []byte // of the file
}

func parse(content []byte) (r records, err error) {
	for {
		number, body, size, ok := cutRecord(content)
		if !ok || r.next > 0 && number != r.next {
			r.rest = content
			return r, nil
		}
		entries, err := parseEntries(body)
		if err != nil {
			return r, err
		}
		if r.next == 0 {
			r.first = number
		}
		r.next = number + 1
		r.entries = append(r.entries, entries...)
		content = content[size:]
	}
}

// kept is what is in the journal of a directory.
type kept struct {
	entries []*raft.Log
	next    uint64 // number of the next record
	newer   int    // of the files: the one with the newer records
}

// read reads the journal of a directory, if there is one.
func read(dir string) (k kept, err error) {
	var files [2]records
	for i, name := range names {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return k, fmt.Errorf("read the journal of the log: %w", err)
		}
		if files[i], err = parse(content); err != nil {
			return k, fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
		}
	}
	if files[1].first > files[0].first { // which may have none
		k.newer = 1
	}
	older, newer := files[1-k.newer], files[k.newer]
	if older.next > 0 && older.next != newer.first {
		return k, fmt.Errorf("%w: records %d to %d are missing", ErrDamaged, older.next, newer.first-1)
	}
	k.entries, k.next = append(older.entries, newer.entries...), max(newer.next, 1)
	for _, f := range files {
		if number, ok := laterRecord(f.rest, k.next); ok {
			return k, fmt.Errorf("%w: record %d is missing before record %d", ErrDamaged, k.next, number)
		}
	}
	return k, nil
}

// laterRecord looks for a record with a number of at least so much.
func laterRecord(b []byte, least uint64) (number uint64, ok bool) {
	for {
		at := bytes.Index(b, []byte(magic))
		if at < 0 {
			return 0, false
		}
		b = b[at:]
		if number, _, _, ok := cutRecord(b); ok && number >= least {
			return number, true
		}
		b = b[1:]
	}
}
