package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// The grammar:
//
//	query      = [ either ]
//	either     = both { or both }
//	both       = primary { and primary }
//	primary    = "(" either ")" | comparison
//	comparison = field operator ( string | "[" [ string { "," string } ] "]" )
//
// The meaning of a word follows from its position, so no field name is
// reserved.
type parser struct {
	text  string
	pos   int
	depth int // of open parentheses

	operators int // that were read
	longest   int // list that was read, in values
}

func parse(text string) (expr, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{Offset: MaxLength, Reason: fmt.Sprintf("a query has at most %d bytes", MaxLength)}
	}
	if !utf8.ValidString(text) {
		return nil, &SyntaxError{Reason: "the query is not UTF-8"}
	}
	p := &parser{text: text}
	p.skipSpace()
	if p.atEnd() {
		return nil, nil
	}
	root, err := p.either()
	if err != nil {
		return nil, err
	}
	switch {
	case !p.atEnd():
		return nil, p.failf("expected and, or, or the end")
	case p.operators > MaxOperators:
		return nil, ErrTooManyOperators
	case p.longest > MaxValues:
		return nil, ErrTooManyValues
	}
	return root, nil
}

func (p *parser) either() (expr, error) {
	var list disjunction
	for {
		e, err := p.both()
		if err != nil {
			return nil, err
		}
		if nested, ok := e.(disjunction); ok {
			list = append(list, nested...)
		} else {
			list = append(list, e)
		}
		if !p.accept("||", "or", "OR") {
			break
		}
		p.operators++
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

func (p *parser) both() (expr, error) {
	var list conjunction
	for {
		e, err := p.primary()
		if err != nil {
			return nil, err
		}
		if nested, ok := e.(conjunction); ok {
			list = append(list, nested...)
		} else {
			list = append(list, e)
		}
		if !p.accept("&&", "and", "AND") {
			break
		}
		p.operators++
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

func (p *parser) primary() (expr, error) {
	if !p.accept("(") {
		return p.comparison()
	}
	if p.depth++; p.depth > MaxDepth {
		return nil, p.failf("parentheses nest deeper than %d", MaxDepth)
	}
	e, err := p.either()
	if err != nil {
		return nil, err
	}
	if !p.accept(")") {
		return nil, p.failf("expected and, or, or a closing parenthesis")
	}
	p.depth--
	return e, nil
}

func (p *parser) comparison() (expr, error) {
	f, err := p.field()
	if err != nil {
		return nil, err
	}
	op, err := p.operator()
	if err != nil {
		return nil, err
	}
	c := &comparison{field: f, op: op}
	if op.takesList() {
		c.values, err = p.list()
	} else {
		var v string
		v, err = p.value()
		c.values = []string{v}
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (p *parser) field() (field, error) {
	word := p.peek()
	if word == "" || !isWord(word) {
		return field{}, p.failf("expected a field")
	}
	parts := strings.Split(word, ".")
	for _, part := range parts {
		if part == "" {
			return field{}, p.failf("a part of the field's path is empty")
		}
	}
	p.advance(word)
	return newField(parts), nil
}

func (p *parser) operator() (operator, error) {
	token := p.peek()
	op, ok := operators[token]
	if !ok {
		return 0, p.failf("expected one of ==, !=, in, not_in, contains")
	}
	p.advance(token)
	p.operators++
	return op, nil
}

func (p *parser) list() ([]string, error) {
	if !p.accept("[") {
		return nil, p.failf("expected a list of strings in brackets")
	}
	var values []string
	if p.accept("]") {
		return values, nil
	}
	for {
		v, err := p.value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		p.longest = max(p.longest, len(values))
		if p.accept("]") {
			return values, nil
		}
		if !p.accept(",") {
			return nil, p.failf("expected a comma or a closing bracket")
		}
	}
}

func (p *parser) value() (string, error) {
	rest := p.text[p.pos:]
	if !strings.HasPrefix(rest, `"`) {
		return "", p.failf("expected a string in double quotes")
	}
	literal := literalPrefix(rest)
	if literal == "" {
		return "", p.failf("the string has no end")
	}
	if !json.Valid([]byte(literal)) {
		return "", p.failf("the string is not one of JSON")
	}
	p.advance(literal)
	// Read as Match reads the data, down to what becomes of half a surrogate pair.
	return gjson.Parse(literal).Str, nil
}

// literalPrefix returns the string literal that s starts with, quotes included;
// empty if it does not end.
func literalPrefix(s string) string {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i+1]
		}
	}
	return ""
}

// accept takes the next token if it is one of the given ones, and reports
// whether it did.
func (p *parser) accept(tokens ...string) bool {
	next := p.peek()
	for _, t := range tokens {
		if next == t {
			p.advance(t)
			return true
		}
	}
	return false
}

// peek returns the next token other than a string: a word, an operator of two
// signs, or a single character; empty at the end.
func (p *parser) peek() string {
	rest := p.text[p.pos:]
	if n := strings.IndexFunc(rest, isNoWord); n != 0 {
		if n < 0 {
			return rest
		}
		return rest[:n]
	}
	if len(rest) >= 2 {
		switch two := rest[:2]; two {
		case "==", "!=", "&&", "||":
			return two
		}
	}
	_, size := utf8.DecodeRuneInString(rest)
	return rest[:size]
}

func (p *parser) advance(token string) {
	p.pos += len(token)
	p.skipSpace()
}

func (p *parser) skipSpace() {
	rest := p.text[p.pos:]
	p.pos += len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace))
}

func (p *parser) atEnd() bool { return p.pos == len(p.text) }

func (p *parser) failf(format string, args ...any) error {
	return &SyntaxError{Offset: p.pos, Reason: fmt.Sprintf(format, args...)}
}

func isWord(token string) bool { return strings.IndexFunc(token, isNoWord) < 0 }

// isNoWord reports whether a character ends a word: the signs of the language,
// those that are likely to be mistaken for one, and white space.
func isNoWord(r rune) bool {
	return strings.ContainsRune("\"'`()[]{},=!<>&|\\", r) || unicode.IsSpace(r) || unicode.IsControl(r)
}
