package objects

import (
	"strconv"
	"strings"
)

// Revision counts the changes of a document, collection or item. On the wire
// it is lower-case hexadecimal text, and opaque.
type Revision uint64

// String returns the wire form.
func (r Revision) String() string { return strconv.FormatUint(uint64(r), 16) }

// Precondition is what an If-Match asks for. The zero value asks for nothing.
type Precondition struct {
	Kind     PreconditionKind `cbor:"1,keyasint,omitempty"`
	Revision Revision         `cbor:"2,keyasint,omitempty"`
}

// PreconditionKind tells the forms of an If-Match apart.
type PreconditionKind uint8

const (
	MatchNothing  PreconditionKind = 0 // no condition
	MatchAny      PreconditionKind = 1 // "*": it exists
	MatchRevision PreconditionKind = 2 // it has this revision
	MatchAbsent   PreconditionKind = 3 // "-1", realtime only: it does not exist yet
)

// Holds reports whether something that exists with revision r meets the condition.
func (p Precondition) Holds(r Revision) bool {
	switch p.Kind {
	case MatchRevision:
		return p.Revision == r
	case MatchAbsent:
		return false
	}
	return true
}

// ParseIfMatch reads an If-Match header: empty, "*", or a revision, bare or
// quoted as in an ETag. Anything else is ErrRevision.
func ParseIfMatch(header string) (Precondition, error) {
	text := strings.TrimSpace(header)
	switch text {
	case "":
		return Precondition{}, nil
	case "*":
		return Precondition{Kind: MatchAny}, nil
	}
	text = strings.TrimPrefix(text, "W/")
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		text = text[1 : n-1]
	}
	r, err := strconv.ParseUint(text, 16, 64)
	if err != nil || Revision(r).String() != text {
		return Precondition{}, ErrRevision
	}
	return Precondition{Kind: MatchRevision, Revision: Revision(r)}, nil
}
