package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"lockstep/objects"
)

// CommandID names one intended write. It is made once and kept over every
// retry, so that the write happens once.
type CommandID [16]byte

// Actor is on whose behalf a command is sent.
type Actor struct {
	Identity string `cbor:"1,keyasint,omitempty"` // of the access token
	Endpoint string `cbor:"2,keyasint,omitempty"` // of the realtime session
	Token    bool   `cbor:"3,keyasint,omitempty"` // false: REST credentials, which no permission binds
}

func (a *Actor) describe(f *form) {
	f.identity(1, &a.Identity, optional)
	f.text(2, &a.Endpoint, optional)
	f.bool(3, &a.Token)
}

// name is the actor as created_by and webhooks show it.
func (a Actor) name() string {
	if a.Token {
		return a.Identity
	}
	return objects.SystemIdentity
}

// Command is one mutation as data.
type Command struct {
	ID CommandID

	// Issued is the index that the proposer's store had applied when the id was
	// made. What the dedup window forgot before that point cannot have been
	// this command, so a command is refused if the window no longer reaches back.
	Issued uint64

	// ClientChosen says that the client chose the id (an idempotency key), in the
	// window of its service. Fingerprint is then a hash of the request: another
	// request under the same key is refused.
	ClientChosen bool
	Fingerprint  [16]byte

	Actor   Actor
	Service objects.SID
	Op      Op
}

// Op is what a command does. Each operation is one type, beside the records that
// it changes, and one row of the table of operations.
type Op interface {
	apply(tx *tx) Result
}

// wireCommand is how a command is written.
type wireCommand struct {
	_            struct{} `cbor:",toarray"`
	Kind         opKind
	ID           CommandID
	Issued       uint64
	ClientChosen bool
	Fingerprint  [16]byte
	Actor        Actor
	Service      objects.SID
	Op           cbor.RawMessage
}

// ErrCommand is wrapped by every failure to decode a command or batch.
var ErrCommand = errors.New("fsm: not a command this version understands")

// Encode returns the command's bytes for the log and for the way to the leader:
// the level that its reader has to know, then the command.
func (c *Command) Encode() ([]byte, error) {
	row, known := rows[reflect.TypeOf(c.Op)]
	if !known {
		return nil, fmt.Errorf("fsm: %T is not in the table of operations", c.Op)
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	b := binary.AppendUvarint((*scratch)[:0], uint64(c.readableFrom()))
	b = appendHead(b, cborArray, commandFields)
	b = appendHead(b, cborUint, uint64(row.kind))
	b = append(appendHead(b, cborBytes, uint64(len(c.ID))), c.ID[:]...)
	b = appendHead(b, cborUint, c.Issued)
	b = appendBool(b, c.ClientChosen)
	b = append(appendHead(b, cborBytes, uint64(len(c.Fingerprint))), c.Fingerprint[:]...)
	b = appendForm(b, &c.Actor)
	b = append(appendHead(b, cborBytes, uint64(len(c.Service))), c.Service[:]...)
	b, err := encode(b, c.Op)
	if err != nil {
		return nil, fmt.Errorf("fsm: encode operation: %w", err)
	}
	if cap(b) <= maxScratch {
		*scratch = b
	}
	return bytes.Clone(b), nil
}

// scratches are where commands are encoded, to be copied when their length is known.
var scratches = sync.Pool{New: func() any { return new([]byte) }}

const maxScratch = 64 << 10

// commandFields is the number of fields of a wireCommand.
const commandFields = 8

// DecodeCommand reads what Encode wrote. The command does not alias b.
func DecodeCommand(b []byte) (*Command, error) {
	c := new(Command)
	if err := c.decode(b); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Command) decode(b []byte) error {
	level, b, err := cutLevel(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	if err := level.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrCommand, err)
	}
	kind, op, ok := c.read(b)
	if !ok {
		var w wireCommand
		if err := decoding.Unmarshal(b, &w); err != nil {
			return fmt.Errorf("%w: %w", ErrCommand, err)
		}
		*c = Command{
			ID: w.ID, Issued: w.Issued, ClientChosen: w.ClientChosen, Fingerprint: w.Fingerprint,
			Actor: w.Actor, Service: w.Service,
		}
		kind, op = w.Kind, w.Op
	}
	row, known := kinds[kind]
	if !known {
		return fmt.Errorf("%w: kind %d", ErrCommand, kind)
	}
	c.Op = row.new()
	if err := decode(op, c.Op); err != nil {
		return fmt.Errorf("%w: kind %d: %w", ErrCommand, kind, err)
	}
	return nil
}

// read reads all but the operation, whose bytes it returns, and reports whether it
// was written by Encode.
func (c *Command) read(b []byte) (kind opKind, op []byte, ok bool) {
	f := startReading(b)
	defer f.release()
	if f.readHead(cborArray) != commandFields {
		f.fail()
	}
	kind = readUint[opKind](f)
	f.readArray(c.ID[:])
	c.Issued = f.readHead(cborUint)
	c.ClientChosen = f.readBool()
	f.readArray(c.Fingerprint[:])
	f.record(&c.Actor)
	f.readArray(c.Service[:])
	return kind, f.b, !f.strange
}

// A log entry is a batch of commands: the version of this envelope in a byte,
// the level that its reader has to know, the leader's time, the commands each
// with its length, and the CRC-32C of all that in four bytes.
const (
	batchVersion = 3
	checksumSize = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CheckBatch reports what is wrong with a log entry, if anything, by its checksum
// and by its level: ErrNewer is an entry of a newer release.
func CheckBatch(b []byte) error {
	_, err := openBatch(b)
	return err
}

// openBatch returns what is between the level and the checksum of a batch.
func openBatch(b []byte) (body []byte, err error) {
	if len(b) < 1+checksumSize {
		return nil, fmt.Errorf("%w: batch of %d bytes", ErrCommand, len(b))
	}
	end := len(b) - checksumSize
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, fmt.Errorf("%w: batch does not match its checksum", ErrCommand)
	}
	if b[0] != batchVersion {
		return nil, fmt.Errorf("%w: batch version %d", ErrCommand, b[0])
	}
	level, body, err := cutLevel(b[1:end])
	if err != nil {
		return nil, fmt.Errorf("%w: batch: %w", ErrCommand, err)
	}
	if err := level.check(); err != nil {
		return nil, fmt.Errorf("%w: batch: %w", ErrCommand, err)
	}
	return body, nil
}

// checksumOf returns the checksum at the end of a log entry.
func checksumOf(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b[len(b)-checksumSize:])) }

// EncodeBatch makes one log entry of commands (as Encode returned them), stamped
// with the leader's time.
func EncodeBatch(unixMilli int64, commands [][]byte) []byte {
	size, level := 1+2*binary.MaxVarintLen64+checksumSize, Level1
	for _, c := range commands {
		size += binary.MaxVarintLen32 + len(c)
		if of, _, err := cutLevel(c); err == nil {
			level = max(level, of)
		}
	}
	b := make([]byte, 1, size)
	b[0] = batchVersion
	b = binary.AppendUvarint(b, uint64(level))
	b = binary.AppendVarint(b, unixMilli)
	for _, c := range commands {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeBatch(b []byte) (unixMilli int64, commands []Command, err error) {
	b, err = openBatch(b)
	if err != nil {
		return 0, nil, err
	}
	unixMilli, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: batch time", ErrCommand)
	}
	b = b[n:]
	count, err := countCommands(b)
	if err != nil {
		return 0, nil, err
	}
	commands = make([]Command, count)
	for i := range commands {
		var c []byte
		c, b, _ = cutCommand(b)
		if err := commands[i].decode(c); err != nil {
			return 0, nil, err
		}
	}
	return unixMilli, commands, nil
}

// countCommands returns the number of commands in the body of a batch.
func countCommands(b []byte) (count int, err error) {
	for ; len(b) > 0; count++ {
		if _, b, err = cutCommand(b); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// cutCommand returns the first command of the body of a batch, and what follows.
func cutCommand(b []byte) (command, rest []byte, err error) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, fmt.Errorf("%w: length in batch", ErrCommand)
	}
	end := n + int(size)
	return b[n:end], b[end:], nil
}

// encoding and decoding are the one way in which commands, results and records
// are written: deterministic, so that equal values have equal bytes.
var (
	encoding = mustMode(cbor.EncOptions{Sort: cbor.SortCoreDeterministic}.UserBufferEncMode())
	decoding = mustMode(cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxArrayElements: 1 << 20,
	}.DecMode())
)

func mustMode[M any](m M, err error) M {
	if err != nil {
		panic(err)
	}
	return m
}
