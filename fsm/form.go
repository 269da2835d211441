package fsm

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"sync"
	"unicode/utf8"

	"lockstep/objects"
)

// form is the CBOR of the commands, results and records of which there are many:
// what the encoding of their types by the library is, byte for byte, without
// reflection. A type says once what its fields are, for both ways (described), and
// one form either writes it or reads it.
//
// A form reads only what a form has written: numbers of fields in order, and none
// that it does not know. The rest is strange, and the library's to judge.
type form struct {
	b       []byte // what was written, or what is left to be read
	reading bool
	strange bool // what was read is not as a form writes it

	head   int // where the record being written begins
	fields int // of the record under way: how many were written, or are left to be read

	last string // identity that was read
}

// described is a record that a form writes and reads. Its fields are told in the
// order of their numbers, which are less than 24, as is how many there are.
type described interface{ describe(f *form) }

// The major types of CBOR, as the head of a value has them.
const (
	cborUint  byte = 0 << 5
	cborInt   byte = 1 << 5 // less than zero
	cborBytes byte = 2 << 5
	cborText  byte = 3 << 5
	cborArray byte = 4 << 5
	cborMap   byte = 5 << 5
	cborFalse byte = 7<<5 | 20
	cborTrue  byte = 7<<5 | 21
	cborNull  byte = 7<<5 | 22

	maxField = 23 // what fits into the head
)

// forms are those that nobody uses: one that is passed on does not stay on a stack.
var forms = sync.Pool{New: func() any { return new(form) }}

// appendForm appends a record to b.
func appendForm(b []byte, x described) []byte {
	f := forms.Get().(*form)
	*f = form{b: b, last: f.last}
	f.record(x)
	b = f.b
	f.release()
	return b
}

// readForm reads a record that is all of b, and reports whether it was written by
// a form.
func readForm(b []byte, x described) bool {
	f := startReading(b)
	f.record(x)
	complete := !f.strange && len(f.b) == 0
	f.release()
	return complete
}

func startReading(b []byte) *form {
	f := forms.Get().(*form)
	*f = form{b: b, reading: true, last: f.last}
	return f
}

func (f *form) release() {
	f.b = nil
	forms.Put(f)
}

func (f *form) record(x described) {
	head, fields := f.head, f.fields
	if f.reading {
		f.fields = int(f.readHead(cborMap))
	} else {
		f.head, f.fields = len(f.b), 0
		f.b = append(f.b, cborMap)
	}
	x.describe(f)
	switch {
	case f.reading && f.fields != 0:
		f.fail()
	case !f.reading && f.fields > maxField:
		panic(fmt.Sprintf("fsm: a record of %d fields", f.fields))
	case !f.reading:
		f.b[f.head] |= byte(f.fields)
	}
	f.head, f.fields = head, fields
}

// field begins a field, and reports whether there is one: when writing, if it is
// to be present.
func (f *form) field(number byte, present bool) bool {
	if f.reading {
		if f.fields == 0 || len(f.b) == 0 || f.b[0] != number {
			return false
		}
		f.b = f.b[1:]
		f.fields--
		return true
	}
	if present {
		f.b = append(f.b, number)
		f.fields++
	}
	return present
}

// needed and optional say whether a field is written although it is zero.
const (
	needed   = true
	optional = false
)

// uintField tells a number. As with all fields, what is read is only written to; see
// describe of items.
func uintField[T ~uint8 | ~uint64](f *form, number byte, x *T, always bool) {
	switch {
	case !f.field(number, f.reading || always || *x != 0):
	case f.reading:
		*x = readUint[T](f)
	default:
		f.b = appendHead(f.b, cborUint, uint64(*x))
	}
}

// int tells a number that may be less than zero.
func (f *form) int(number byte, x *int64, always bool) {
	switch {
	case !f.field(number, f.reading || always || *x != 0):
	case f.reading:
		*x = f.readInt()
	default:
		f.b = appendInt(f.b, *x)
	}
}

// intOrNone tells a number that may be missing.
func (f *form) intOrNone(number byte, x **int64) {
	switch {
	case !f.field(number, *x != nil):
	case f.reading:
		n := f.readInt()
		*x = &n
	default:
		f.b = appendInt(f.b, **x)
	}
}

// bool tells a truth, which is written only if it is one.
func (f *form) bool(number byte, x *bool) {
	switch {
	case !f.field(number, *x):
	case f.reading:
		*x = f.readBool()
	default:
		f.b = append(f.b, cborTrue)
	}
}

func (f *form) text(number byte, x *string, always bool) {
	switch {
	case !f.field(number, f.reading || always || *x != ""):
	case f.reading:
		*x = f.readText()
	default:
		f.b = append(appendHead(f.b, cborText, uint64(len(*x))), *x...)
	}
}

// identity tells a text that is often the same as in the record before: it is read into
// one string for all of those.
func (f *form) identity(number byte, x *string, always bool) {
	if !f.reading {
		f.text(number, x, always)
		return
	}
	if !f.field(number, always) {
		return
	}
	b := f.cut(cborText)
	switch {
	case string(b) == f.last:
	case string(b) == objects.SystemIdentity:
		f.last = objects.SystemIdentity
	case utf8.Valid(b):
		f.last = string(b)
	default:
		f.fail()
		return
	}
	*x = f.last
}

func (f *form) bytes(number byte, x *[]byte, always bool) {
	switch {
	case !f.field(number, f.reading || always || len(*x) > 0):
	case f.reading:
		*x = f.readBytes()
	case *x == nil:
		f.b = append(f.b, cborNull)
	default:
		f.b = append(appendHead(f.b, cborBytes, uint64(len(*x))), *x...)
	}
}

// array tells bytes of a fixed number, which are always written.
func (f *form) array(number byte, x []byte) {
	switch {
	case !f.field(number, needed):
	case f.reading:
		f.readArray(x)
	default:
		f.b = append(appendHead(f.b, cborBytes, uint64(len(x))), x...)
	}
}

// part tells a record within a record.
func (f *form) part(number byte, x described, present bool) {
	if f.field(number, present) {
		f.record(x)
	}
}

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendInt(b []byte, x int64) []byte {
	if x < 0 {
		return appendHead(b, cborInt, uint64(^x))
	}
	return appendHead(b, cborUint, uint64(x))
}

func appendBool(b []byte, x bool) []byte {
	if x {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

func (f *form) fail() { f.strange, f.b = true, nil }

// readHead reads the head of a value of a major type: a number, a length or a count.
func (f *form) readHead(major byte) uint64 {
	if len(f.b) == 0 || f.b[0]&0xe0 != major {
		f.fail()
		return 0
	}
	short := f.b[0] & 0x1f
	if short < 24 {
		f.b = f.b[1:]
		return uint64(short)
	}
	size := 1 << (short - 24)
	if short > 27 || len(f.b) < 1+size {
		f.fail()
		return 0
	}
	n := uint64(0)
	for _, b := range f.b[1 : 1+size] {
		n = n<<8 | uint64(b)
	}
	f.b = f.b[1+size:]
	return n
}

func readUint[T ~uint8 | ~uint64](f *form) T {
	n := f.readHead(cborUint)
	if uint64(T(n)) != n {
		f.fail()
	}
	return T(n)
}

func (f *form) readInt() int64 {
	major := cborUint
	if len(f.b) > 0 && f.b[0]&0xe0 == cborInt {
		major = cborInt
	}
	n := f.readHead(major)
	if n > 1<<63-1 {
		f.fail()
	}
	if major == cborInt {
		return ^int64(n)
	}
	return int64(n)
}

func (f *form) readBool() bool {
	if len(f.b) == 0 || (f.b[0] != cborTrue && f.b[0] != cborFalse) {
		f.fail()
		return false
	}
	x := f.b[0] == cborTrue
	f.b = f.b[1:]
	return x
}

// cut returns the content of a string of a major type, which is a part of f.b.
func (f *form) cut(major byte) []byte {
	n := f.readHead(major)
	if n > uint64(len(f.b)) {
		f.fail()
		return nil
	}
	x := f.b[:n]
	f.b = f.b[n:]
	return x
}

func (f *form) readText() string {
	x := f.cut(cborText)
	if !utf8.Valid(x) {
		f.fail()
	}
	return string(x)
}

// readBytes returns a copy, so that what is read does not keep what it was read from.
func (f *form) readBytes() []byte {
	if len(f.b) > 0 && f.b[0] == cborNull {
		f.b = f.b[1:]
		return nil
	}
	x := f.cut(cborBytes)
	return append(make([]byte, 0, len(x)), x...)
}

func (f *form) readArray(to []byte) {
	x := f.cut(cborBytes)
	if len(x) != len(to) {
		f.fail()
		return
	}
	copy(to, x)
}

// The records of package objects, which knows nothing of how it is written.
type (
	objectForm       objects.Object
	itemForm         objects.Item
	preconditionForm objects.Precondition
)

func (o *objectForm) describe(f *form) {
	o.begin(f)
	o.end(f)
}

// begin and end are the fields below and above those of a storedObject.
func (o *objectForm) begin(f *form) {
	uintField(f, 1, &o.Num, needed)
	f.array(2, o.SID[:])
	uintField(f, 3, &o.Service, needed)
	f.array(4, o.ServiceSID[:])
	f.text(5, &o.UniqueName, optional)
	uintField(f, 6, &o.EventID, optional)
	f.int(7, &o.Created, needed)
	f.int(8, &o.Updated, needed)
	f.int(9, &o.Expires, optional)
	f.identity(10, &o.CreatedBy, needed)
	f.bytes(11, &o.Data, optional)
	uintField(f, 12, &o.Items, optional)
}

func (o *objectForm) end(f *form) {
	uintField(f, 17, &o.ContextEvent, optional)
	f.int(18, &o.ContextAt, optional)
}

// describe begins with a write: the system gives memory at the first access, and takes
// twice as long if that is a read, such as the look whether i is nil for &i.Object.
func (i *itemForm) describe(f *form) {
	if f.reading {
		i.Object = 0
	}
	uintField(f, 1, &i.Object, needed)
	uintField(f, 2, &i.Index, optional)
	f.text(3, &i.Key, optional)
	uintField(f, 4, &i.Revision, needed)
	uintField(f, 5, &i.EventID, needed)
	uintField(f, 6, &i.Added, needed)
	f.int(7, &i.Created, needed)
	f.int(8, &i.Updated, needed)
	f.int(9, &i.Expires, optional)
	f.identity(10, &i.CreatedBy, needed)
	f.bytes(11, &i.Data, optional)
}

func (p *preconditionForm) describe(f *form) {
	uintField(f, 1, &p.Kind, optional)
	uintField(f, 2, &p.Revision, optional)
}

// formOf returns a record as a form writes and reads it, or nil if the library has to.
func formOf(x any) described {
	switch x := x.(type) {
	case described:
		return x
	case *objects.Item:
		return (*itemForm)(x)
	}
	return nil
}

// encode appends the encoding of a command's operation or of a record.
func encode(b []byte, x any) ([]byte, error) {
	if x := formOf(x); x != nil {
		return appendForm(b, x), nil
	}
	own, err := encoding.Marshal(x)
	return append(b, own...), err
}

// decode reads what encode wrote into the zero value that x points to.
func decode(b []byte, x any) error {
	if d := formOf(x); d != nil {
		if readForm(b, d) {
			return nil
		}
		reflect.ValueOf(x).Elem().SetZero() // of what was read before it was strange
	}
	return decoding.Unmarshal(b, x)
}
