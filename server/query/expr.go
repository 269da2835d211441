package query

import (
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"lockstep/objects"
)

// expr is a node of a parsed query: a disjunction, a conjunction or a
// comparison. Lists have at least two elements, and none of their own kind.
type expr interface {
	match(i *Item) bool
	append(b []byte) []byte // canonical text
}

type disjunction []expr

func (d disjunction) match(i *Item) bool {
	for _, e := range d {
		if e.match(i) {
			return true
		}
	}
	return false
}

func (d disjunction) append(b []byte) []byte {
	for i, e := range d {
		if i > 0 {
			b = append(b, "||"...)
		}
		b = e.append(b)
	}
	return b
}

type conjunction []expr

func (c conjunction) match(i *Item) bool {
	for _, e := range c {
		if !e.match(i) {
			return false
		}
	}
	return true
}

func (c conjunction) append(b []byte) []byte {
	for i, e := range c {
		if i > 0 {
			b = append(b, "&&"...)
		}
		if _, loose := e.(disjunction); loose {
			b = append(b, '(')
			b = e.append(b)
			b = append(b, ')')
			continue
		}
		b = e.append(b)
	}
	return b
}

type operator uint8

const (
	equal operator = 1 + iota
	notEqual
	in
	notIn
	contains
)

// operators has every spelling of every operator.
var operators = map[string]operator{
	"==": equal, "eq": equal, "EQ": equal,
	"!=": notEqual, "not_eq": notEqual, "NOT_EQ": notEqual,
	"in": in, "IN": in,
	"not_in": notIn, "NOT_IN": notIn,
	"contains": contains, "CONTAINS": contains,
}

// canonical has the shortest spelling, with the blank that keeps a word apart
// from the field before it.
var canonical = [...]string{equal: "==", notEqual: "!=", in: " in", notIn: " not_in", contains: " contains"}

func (op operator) takesList() bool { return op == in || op == notIn }
func (op operator) negated() bool   { return op == notEqual || op == notIn }

type comparison struct {
	field  field
	op     operator
	values []string // exactly one unless the operator takes a list
}

func (c *comparison) match(i *Item) bool {
	value := c.field.of(i)
	if !value.Exists() {
		return c.op.negated()
	}
	switch c.op {
	case equal, notEqual:
		return (textOf(value) == c.values[0]) != c.op.negated()
	case in, notIn:
		return c.isIn(value) != c.op.negated()
	default:
		return c.isContained(value)
	}
}

func (c *comparison) isIn(value gjson.Result) bool {
	if value.IsArray() {
		return anyElement(value, func(t string) bool { return slices.Contains(c.values, t) })
	}
	return slices.Contains(c.values, textOf(value))
}

func (c *comparison) isContained(value gjson.Result) bool {
	switch {
	case value.IsArray():
		return anyElement(value, func(t string) bool { return t == c.values[0] })
	case value.IsObject():
		return false
	}
	return strings.Contains(textOf(value), c.values[0])
}

func (c *comparison) append(b []byte) []byte {
	b = append(b, c.field.text...)
	b = append(b, canonical[c.op]...)
	if !c.op.takesList() {
		return objects.AppendString(b, c.values[0])
	}
	b = append(b, '[')
	for i, v := range c.values {
		if i > 0 {
			b = append(b, ',')
		}
		b = objects.AppendString(b, v)
	}
	return append(b, ']')
}

func anyElement(array gjson.Result, holds func(text string) bool) bool {
	found := false
	array.ForEach(func(_, element gjson.Result) bool {
		found = holds(textOf(element))
		return !found
	})
	return found
}

// textOf returns the text that a value is compared by.
func textOf(value gjson.Result) string {
	if value.Type == gjson.String {
		return value.Str
	}
	return value.Raw
}

// field is the left side of a comparison: a path into the data, or the key.
type field struct {
	text  string   // canonical
	names []string // of members; none: the key
	steps []string // the same, escaped for gjson
}

// newField makes a field of the parts of a dotted path, none of them empty.
func newField(parts []string) field {
	if len(parts) == 1 && parts[0] == "key" {
		return field{text: "key"}
	}
	if len(parts) > 1 && parts[0] == "data" {
		parts = parts[1:]
	}
	f := field{text: strings.Join(parts, "."), names: parts, steps: make([]string, len(parts))}
	if f.text == "key" || strings.HasPrefix(f.text, "data.") {
		f.text = "data." + f.text
	}
	for i, p := range parts {
		f.steps[i] = gjson.Escape(p)
	}
	return f
}

// of returns the field's value in an item, or a Result that does not exist.
//
// It goes step by step, from object to object: in a whole path gjson would
// give meaning to a number or a "#", escaped or not, that meets an array.
func (f field) of(i *Item) gjson.Result {
	switch {
	case len(f.steps) == 0:
		return gjson.Result{Type: gjson.String, Str: i.key}
	case !i.once:
		return i.find(f.names)
	case len(i.data) == 0 || i.data[0] != '{':
		return gjson.Result{}
	}
	value := gjson.GetBytes(i.data, f.steps[0])
	for _, step := range f.steps[1:] {
		if !value.IsObject() {
			return gjson.Result{}
		}
		value = value.Get(step)
	}
	return value
}
