package fsm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/test/golden"
)

// formed is one empty value of each type that has a form.
func formed() []any {
	all := []any{&Result{}, &storedObject{}, &objects.Item{}, &Actor{}}
	for _, row := range operations {
		if op := row.new(); formOf(op) != nil {
			all = append(all, op)
		}
	}
	return all
}

// vary sets the fields of a value, and of all that is in it, each one to zero or
// to something that may be at the edge of how it is written.
func vary(v reflect.Value, r *rand.Rand) {
	if v.Kind() != reflect.Struct && r.IntN(3) == 0 {
		v.SetZero()
		return
	}
	edges := []uint64{1, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	number := edges[r.IntN(len(edges))] + r.Uint64N(2)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				vary(v.Field(i), r)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		vary(v.Elem(), r)
	case reflect.Array:
		for i := range v.Len() {
			vary(v.Index(i), r)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return // what has such a one has no form
		}
		v.SetBytes(bytes.Repeat([]byte{byte(number)}, []int{0, 1, 23, 24, 300}[r.IntN(5)]))
	case reflect.String:
		v.SetString([]string{"a", "wörter", "\x00", fmt.Sprintf("%300d", number)}[r.IntN(4)])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int64:
		v.SetInt(int64(number))
	case reflect.Int:
		v.SetInt(int64(number % 1000))
	default:
		v.SetUint(number)
	}
}

func TestFormIsTheLibrarysEncoding(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, x := range formed() {
		for range 2000 {
			vary(reflect.ValueOf(x).Elem(), r)
			if result, ok := x.(*Result); ok {
				result.Err, result.Service, result.Permission, result.Durable = nil, nil, nil, nil
			}
			want, err := encoding.Marshal(x)
			require.NoError(t, err)
			got, err := encode(nil, x)
			require.NoError(t, err)
			require.Equal(t, want, got, "%T %+v", x, x)
			sameByLibrary(t, x, got, true)
		}
	}
}

// sameByLibrary holds that what a form reads from b, if it reads it, is what the
// library does. like is of the type.
func sameByLibrary(t *testing.T, like any, b []byte, must bool) {
	x := reflect.New(reflect.TypeOf(like).Elem()).Interface()
	read := readForm(b, formOf(x))
	require.True(t, read || !must, "%T %x", like, b)
	if !read {
		return
	}
	y := reflect.New(reflect.TypeOf(like).Elem()).Interface()
	require.NoError(t, decoding.Unmarshal(b, y), "%x", b)
	require.Equal(t, y, x, "%x", b)
}

// A field that is added to a type and forgotten in its form is missing here.
func TestFormTellsEveryField(t *testing.T) {
	for _, x := range formed() {
		full(x)
		if result, ok := x.(*Result); ok {
			result.Err, result.Service, result.Permission, result.Durable = nil, nil, nil, nil
		} else {
			golden.NoZero(t, x)
		}
		sameByLibrary(t, x, appendForm(nil, formOf(x)), true)
	}
}

func TestResultThatHasNoFormIsTheLibrarys(t *testing.T) {
	r := full(&Result{})
	require.False(t, r.plain())
	b, err := r.Encode()
	require.NoError(t, err)
	require.False(t, readForm(b, new(Result)))
	back, err := DecodeResult(b)
	require.NoError(t, err)
	require.Equal(t, r, back)
}

// What only the library understands leaves nothing behind of what a form read
// before that.
func TestStrangeSpellingIsReadByTheLibraryAlone(t *testing.T) {
	// Fields of a Ref in another order, and one that nobody knows.
	for _, b := range [][]byte{
		{0xa2, 3, 0x41, 7, 2, 0xa1, 2, 0x61, 'x'},
		{0xa3, 2, 0xa1, 2, 0x61, 'x', 3, 0x41, 7, 9, 0xf5},
		{0xa2, 2, 0xa1, 2, 0x78, 1, 'x', 3, 0x41, 7},
	} {
		op := new(UpdateObject)
		require.NoError(t, decode(b, op), "%x", b)
		require.Equal(t, &UpdateObject{Object: Ref{Name: "x"}, Data: []byte{7}}, op, "%x", b)
	}
	op := new(UpdateObject)
	require.Error(t, decode([]byte{0xa2, 3, 0x41, 7, 3, 0x41, 8}, op), "a field twice")
	require.Error(t, decode([]byte{0xa1, 2, 0xa1, 2, 0x61, 0xff}, op), "text that is none")
}

// FuzzFormReads holds every form to the library, for any bytes.
func FuzzFormReads(f *testing.F) {
	for i, x := range formed() {
		f.Add(uint8(i), appendForm(nil, formOf(full(x))))
	}
	types := formed()
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		sameByLibrary(t, types[int(which)%len(types)], b, false)
	})
}

// A command costs its own bytes, and a record what is kept of it.
func TestCodecAllocates(t *testing.T) {
	c := &Command{Service: testService, Op: &UpdateObject{Kind: objects.KindDocument, Object: Ref{Name: "name"}, Data: make([]byte, 256)}}
	b, err := c.Encode()
	require.NoError(t, err)
	require.LessOrEqual(t, fewestAllocs(func() { c.Encode() }), 1.0)
	// The command, its operation, the data, the name.
	require.LessOrEqual(t, fewestAllocs(func() { DecodeCommand(b) }), 4.0)
	r := &Result{Index: 7, Object: &objects.Object{Num: 1, UniqueName: "name", CreatedBy: objects.SystemIdentity}}
	b, err = r.Encode()
	require.NoError(t, err)
	require.Zero(t, fewestAllocs(func() { b, _ = r.Append(b[:0]) }))
	// The result, its object, two texts.
	require.LessOrEqual(t, fewestAllocs(func() { DecodeResult(b) }), 4.0)
}

// fewestAllocs returns how many allocations a call costs when the pools have what it
// needs: with the race detector they throw some of it away.
func fewestAllocs(f func()) float64 {
	fewest := testing.AllocsPerRun(1, f)
	for range 100 {
		fewest = min(fewest, testing.AllocsPerRun(1, f))
	}
	return fewest
}

func BenchmarkCodec(b *testing.B) {
	c := &Command{Service: testService, Op: &UpdateObject{Kind: objects.KindDocument, Object: Ref{Name: "key-000123"}, Data: make([]byte, 256)}}
	encoded, err := c.Encode()
	require.NoError(b, err)
	r := &Result{Index: 70000, Object: &objects.Object{Num: 1, SID: testService, UniqueName: "key-000123", Created: 1.7e12, Updated: 1.7e12, CreatedBy: objects.SystemIdentity}}
	result, err := r.Encode()
	require.NoError(b, err)
	for _, bench := range []struct {
		name string
		do   func()
	}{
		{"encode", func() { c.Encode() }},
		{"decode", func() { DecodeCommand(encoded) }},
		{"encode-result", func() { r.Encode() }},
		{"decode-result", func() { DecodeResult(result) }},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				bench.do()
			}
		})
	}
}
