package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"

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
// the level that whoever reads it has to know, then the command.
func (c *Command) Encode() ([]byte, error) {
	row, known := rows[reflect.TypeOf(c.Op)]
	if !known {
		return nil, fmt.Errorf("fsm: %T is not in the table of operations", c.Op)
	}
	op, err := encoding.Marshal(c.Op)
	if err != nil {
		return nil, fmt.Errorf("fsm: encode operation: %w", err)
	}
	body, err := encoding.Marshal(wireCommand{
		Kind: row.kind, ID: c.ID, Issued: c.Issued, ClientChosen: c.ClientChosen,
		Fingerprint: c.Fingerprint, Actor: c.Actor, Service: c.Service, Op: op,
	})
	if err != nil {
		return nil, fmt.Errorf("fsm: encode command: %w", err)
	}
	b := binary.AppendUvarint(make([]byte, 0, 1+len(body)), uint64(c.readableFrom()))
	return append(b, body...), nil
}

// DecodeCommand reads what Encode wrote. The command does not alias b.
func DecodeCommand(b []byte) (*Command, error) {
	level, b, err := cutLevel(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	if err := level.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	var w wireCommand
	if err := decoding.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	row, known := kinds[w.Kind]
	if !known {
		return nil, fmt.Errorf("%w: kind %d", ErrCommand, w.Kind)
	}
	op := row.new()
	if err := decoding.Unmarshal(w.Op, op); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCommand, w.Kind, err)
	}
	return &Command{
		ID: w.ID, Issued: w.Issued, ClientChosen: w.ClientChosen, Fingerprint: w.Fingerprint,
		Actor: w.Actor, Service: w.Service, Op: op,
	}, nil
}

// A log entry is a batch of commands: the version of this envelope in a byte, the
// level that whoever reads it has to know, the leader's time, the commands each
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

func decodeBatch(b []byte) (unixMilli int64, commands []*Command, err error) {
	b, err = openBatch(b)
	if err != nil {
		return 0, nil, err
	}
	unixMilli, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, fmt.Errorf("%w: batch time", ErrCommand)
	}
	for b = b[n:]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return 0, nil, fmt.Errorf("%w: length in batch", ErrCommand)
		}
		c, err := DecodeCommand(b[n : n+int(size)])
		if err != nil {
			return 0, nil, err
		}
		commands = append(commands, c)
		b = b[n+int(size):]
	}
	return unixMilli, commands, nil
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
