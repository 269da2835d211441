// Package query is the Live Query language: it reads a query's text and says
// which items of a map match.
//
// A query is a comparison, or comparisons joined by and, or and parentheses:
//
//	(team == "red" or lang in ["es", "en"]) and address.city != "Graz"
//
//	==        eq      EQ        the field's text is the value
//	!=        not_eq  NOT_EQ    it is not
//	in        IN                it is one of the values; for an array, an element is
//	not_in    NOT_IN            it is none; for an array, no element is
//	contains  CONTAINS          the value is a part of it; for an array, an element
//	and       AND     &&        both; binds tighter than or
//	or        OR      ||        either
//
// Values are JSON strings. A field is a dotted path through the objects of an
// item's data, with or without a leading "data."; the single word key is the
// item's key (data.key is a member of that name). The text of a string is its
// content, the text of any other JSON value is its compact JSON: 45, true,
// null, ["es","en"]. An absent field matches only the negated operators, != and
// not_in. An object contains nothing. The first of members with the same name
// counts. The empty query matches everything.
//
// Operators and their spellings are those of the vendor's page "Live Query
// Language"; the rules for numbers, arrays, objects and absent fields are
// Lockstep's own.
//
// The parser is written by hand and uses no library: the grammar is the
// vendor's, an error names the place in the text, and every query has a
// canonical text, by which live queries are shared. Fuzzing checks that.
//
// The package does not know where items come from, who may read them or how
// many a result may hold. It starts no goroutines; a Query is immutable and
// can be used by many at once.
package query

import (
	"errors"
	"fmt"
)

const (
	// MaxLength is the length of the longest query in bytes.
	MaxLength = 4096
	// MaxDepth is how deep parentheses may nest.
	MaxDepth = 64
	// MaxOperators is how many operators a query may have, and and or included
	// (error 54509 of the vendor's dictionary: less than 30).
	MaxOperators = 29
	// MaxValues is how many values a list may have (error 54510: less than 30).
	MaxValues = 29
)

var (
	// ErrTooManyOperators says that a query has more than MaxOperators.
	ErrTooManyOperators = errors.New("query: too many operators")
	// ErrTooManyValues says that a list in a query has more than MaxValues.
	ErrTooManyValues = errors.New("query: a list has too many values")
)

// Query is a parsed query. The zero Query matches everything.
type Query struct {
	root expr // nil: everything
}

// SyntaxError says why a text is not a query.
type SyntaxError struct {
	Offset int    // in bytes, where reading stopped
	Reason string // for a person
}

// Error implements error.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("query: at offset %d: %s", e.Offset, e.Reason)
}

// Parse reads a query. An error is a *SyntaxError, ErrTooManyOperators or
// ErrTooManyValues.
func Parse(text string) (*Query, error) {
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &Query{root: root}, nil
}

// Match reports whether an item with this key and this data belongs to the
// result. The data must be a compact JSON value, as items are stored.
func (q *Query) Match(key string, data []byte) bool {
	return q.MatchItem(&Item{key: key, data: data, once: true})
}

// MatchItem is Match for an item that many queries are compared with.
func (q *Query) MatchItem(i *Item) bool {
	return q.root == nil || q.root.match(i)
}

// String returns the canonical text: the same for queries that differ only in
// white space, spelling of operators and strings, parentheses without effect,
// or a leading "data.". It is never longer than the text that was parsed, and
// parses to an equal query.
func (q *Query) String() string {
	if q.root == nil {
		return ""
	}
	return string(q.root.append(nil))
}
