package objects

import (
	"encoding/hex"
	"fmt"
)

// Kind says what a SID names.
type Kind uint8

// The numbers are part of the command and snapshot formats: never reuse one.
const (
	KindNone     Kind = 0
	KindAccount  Kind = 1
	KindKey      Kind = 2
	KindService  Kind = 3
	KindDocument Kind = 4
	KindList     Kind = 5
	KindMap      Kind = 6
	KindStream   Kind = 7
	KindMessage  Kind = 8
)

var kinds = [...]struct{ prefix, name string }{
	KindNone:     {"", "none"},
	KindAccount:  {"AC", "account"},
	KindKey:      {"SK", "key"},
	KindService:  {"IS", "service"},
	KindDocument: {"ET", "document"},
	KindList:     {"ES", "list"},
	KindMap:      {"MP", "map"},
	KindStream:   {"TO", "stream"},
	KindMessage:  {"TZ", "message"},
}

// String returns the kind's name in the singular, as it stands in event types
// and messages: "document", "list", "map", "stream".
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k].name
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Prefix returns the two letters that a SID of this kind starts with.
func (k Kind) Prefix() string {
	if int(k) < len(kinds) {
		return kinds[k].prefix
	}
	return ""
}

// SIDLength is the length of a SID's text: two letters and 32 hexadecimal digits.
const SIDLength = 34

// SID is a system identifier: its kind, and 128 random bits. The zero SID is
// none. It is comparable, holds no pointer, and orders by kind, then bits.
type SID [17]byte

// NewSID makes a SID of a kind from 16 bytes of the caller's randomness.
func NewSID(kind Kind, random [16]byte) SID {
	var s SID
	s[0] = byte(kind)
	copy(s[1:], random[:])
	return s
}

// Kind returns the kind of thing the SID names.
func (s SID) Kind() Kind { return Kind(s[0]) }

// IsZero reports whether the SID is none.
func (s SID) IsZero() bool { return s == SID{} }

// String returns the 34 characters of the wire form; empty for none.
func (s SID) String() string {
	if s.IsZero() {
		return ""
	}
	return string(s.Append(make([]byte, 0, SIDLength)))
}

// Append appends the 34 characters of the wire form to b.
func (s SID) Append(b []byte) []byte {
	b = append(b, s.Kind().Prefix()...)
	return hex.AppendEncode(b, s[1:])
}

// ParseSID reads the wire form of any kind. ok is false for everything else,
// upper-case digits included: SIDs are compared exactly.
func ParseSID(text string) (sid SID, ok bool) {
	if !LooksLikeSID(text) {
		return SID{}, false
	}
	for k := KindAccount; int(k) < len(kinds); k++ {
		if text[:2] == kinds[k].prefix {
			sid[0] = byte(k)
			_, err := hex.Decode(sid[1:], []byte(text[2:]))
			return sid, err == nil
		}
	}
	return SID{}, false
}

// LooksLikeSID reports whether a path segment is addressed as a SID rather than
// as a unique name: two capital letters and 32 lower-case hexadecimal digits.
func LooksLikeSID(text string) bool {
	if len(text) != SIDLength || !isCapital(text[0]) || !isCapital(text[1]) {
		return false
	}
	for i := 2; i < SIDLength; i++ {
		if c := text[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }
