package fsm

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/fxamacker/cbor/v2"

	"lockstep/objects"
)

// CommandID names one intended write. It is made once and kept over every
// retry, so that the write happens once.
type CommandID [16]byte

// NewID makes a random command id.
func NewID() CommandID {
	var id CommandID
	rand.Read(id[:]) // never fails
	return id
}

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

	// Keyed says that the client chose the id (an idempotency key), in the
	// window of its service. Print is then a hash of the request: another
	// request under the same key is refused.
	Keyed bool
	Print [16]byte

	Actor   Actor
	Service objects.SID
	Op      Op
}

// Op is what a command does. Each kind of operation is one type beside the
// records that it changes.
type Op interface {
	kind() opKind
	apply(tx *tx) Result
}

// opKind numbers the operations in the log: never reuse a number.
type opKind uint8

const (
	opCreateService    opKind = 1
	opUpdateService    opKind = 2
	opRemoveService    opKind = 3
	opCreateObject     opKind = 10
	opUpdateObject     opKind = 11
	opRemoveObject     opKind = 12
	opWriteItem        opKind = 20
	opRemoveItem       opKind = 21
	opPublish          opKind = 30
	opSetPermission    opKind = 40
	opRemovePermission opKind = 41
	opCreateKey        opKind = 50
	opRevokeKey        opKind = 51
	opAddAuthToken     opKind = 52
	opPromoteAuthToken opKind = 53
	opDropAuthToken    opKind = 54
	opRotateKey        opKind = 55

	// From here on the cluster's own. But for opConnectEndpoint they have the same
	// effect however often they are applied, and need no place in the dedup window.
	opOwn                opKind = 100
	opInitialise         opKind = 100
	opTermStarted        opKind = 101
	opExpire             opKind = 102
	opSettleDeliveries   opKind = 103
	opConnectEndpoint    opKind = 104
	opDisconnectEndpoint opKind = 105
	opDropEndpoints      opKind = 106
	opReachKeyStage      opKind = 107
	opAdvanceKey         opKind = 108
	opRecover            opKind = 120
)

func newOp(k opKind) Op {
	switch k {
	case opCreateService:
		return new(CreateService)
	case opUpdateService:
		return new(UpdateService)
	case opRemoveService:
		return new(RemoveService)
	case opCreateObject:
		return new(CreateObject)
	case opUpdateObject:
		return new(UpdateObject)
	case opRemoveObject:
		return new(RemoveObject)
	case opWriteItem:
		return new(WriteItem)
	case opRemoveItem:
		return new(RemoveItem)
	case opPublish:
		return new(Publish)
	case opSetPermission:
		return new(SetPermission)
	case opRemovePermission:
		return new(RemovePermission)
	case opCreateKey:
		return new(CreateKey)
	case opRevokeKey:
		return new(RevokeKey)
	case opAddAuthToken:
		return new(AddAuthToken)
	case opPromoteAuthToken:
		return new(PromoteAuthToken)
	case opDropAuthToken:
		return new(DropAuthToken)
	case opRotateKey:
		return new(RotateKey)
	case opInitialise:
		return new(Initialise)
	case opTermStarted:
		return new(startTerm)
	case opExpire:
		return new(expire)
	case opSettleDeliveries:
		return new(SettleDeliveries)
	case opConnectEndpoint:
		return new(ConnectEndpoint)
	case opDisconnectEndpoint:
		return new(DisconnectEndpoint)
	case opDropEndpoints:
		return new(DropEndpoints)
	case opReachKeyStage:
		return new(ReachKeyStage)
	case opAdvanceKey:
		return new(AdvanceKey)
	case opRecover:
		return new(Recover)
	}
	return nil
}

// commandVersion is the version of the envelope. The meaning of a version is
// frozen once released.
const commandVersion = 1

type wireCommand struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Kind    opKind
	ID      CommandID
	Issued  uint64
	Keyed   bool
	Print   [16]byte
	Actor   Actor
	Service objects.SID
	Op      cbor.RawMessage
}

// ErrCommand is wrapped by every failure to decode a command or batch.
var ErrCommand = errors.New("fsm: not a command this version understands")

// Encode gives the command's bytes for the log and for the way to the leader.
func (c *Command) Encode() ([]byte, error) {
	op, err := encoding.Marshal(c.Op)
	if err != nil {
		return nil, fmt.Errorf("fsm: encode operation: %w", err)
	}
	return encoding.Marshal(wireCommand{
		Version: commandVersion, Kind: c.Op.kind(), ID: c.ID, Issued: c.Issued, Keyed: c.Keyed,
		Print: c.Print, Actor: c.Actor, Service: c.Service, Op: op,
	})
}

// DecodeCommand reads what Encode wrote. The command does not alias b.
func DecodeCommand(b []byte) (*Command, error) {
	var w wireCommand
	if err := decoding.Unmarshal(b, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err)
	}
	op := newOp(w.Kind)
	if w.Version != commandVersion || op == nil {
		return nil, fmt.Errorf("%w: version %d, kind %d: written by a newer release", ErrCommand, w.Version, w.Kind)
	}
	if err := decoding.Unmarshal(w.Op, op); err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrCommand, w.Kind, err)
	}
	return &Command{
		ID: w.ID, Issued: w.Issued, Keyed: w.Keyed, Print: w.Print,
		Actor: w.Actor, Service: w.Service, Op: op,
	}, nil
}

// batchVersion is the first byte of every log entry; its last four are the CRC-32C
// of all before them.
const (
	batchVersion = 2
	checksumSize = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CheckBatch reports what is wrong with a log entry, if anything, by its checksum.
func CheckBatch(b []byte) error {
	if len(b) < 1+checksumSize || b[0] != batchVersion {
		return fmt.Errorf("%w: batch version", ErrCommand)
	}
	end := len(b) - checksumSize
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return fmt.Errorf("%w: batch does not match its checksum", ErrCommand)
	}
	return nil
}

// checksumOf returns the checksum at the end of a log entry.
func checksumOf(b []byte) uint64 { return uint64(binary.LittleEndian.Uint32(b[len(b)-checksumSize:])) }

// EncodeBatch makes one log entry of commands (as Encode gave them), stamped
// with the leader's time.
func EncodeBatch(unixMilli int64, commands [][]byte) []byte {
	size := 1 + binary.MaxVarintLen64 + checksumSize
	for _, c := range commands {
		size += binary.MaxVarintLen32 + len(c)
	}
	b := make([]byte, 1, size)
	b[0] = batchVersion
	b = binary.AppendVarint(b, unixMilli)
	for _, c := range commands {
		b = binary.AppendUvarint(b, uint64(len(c)))
		b = append(b, c...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeBatch(b []byte) (unixMilli int64, commands []*Command, err error) {
	if err := CheckBatch(b); err != nil {
		return 0, nil, err
	}
	b = b[1 : len(b)-checksumSize]
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
