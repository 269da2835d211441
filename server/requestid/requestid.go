// Package requestid has the ids by which an answer is found in the log.
package requestid

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Header is the header of an answer that has its id, in canonical form.
const Header = "Twilio-Request-Id"

// ID is the id of one request.
type ID [16]byte

// New makes an id.
func New() (id ID) {
	binary.NativeEndian.PutUint64(id[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(id[8:], rand.Uint64())
	return id
}

// Append appends the id as in the answer's header.
func (id ID) Append(b []byte) []byte { return hex.AppendEncode(append(b, "RQ"...), id[:]) }

// String returns the id as in the answer's header.
func (id ID) String() string { return string(id.Append(nil)) }
