// Package golden holds encoded forms to files: what a release has written, every
// later one must read.
package golden

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Check compares encoded values, by name, with a file; with -update it writes the
// file. A form that a release has written is never to be changed: add another one.
func Check(t require.TestingT, path string, encoded map[string][]byte) {
	if *update {
		write(t, path, encoded)
	}
	kept := Read(t, path)
	require.Equal(t, slices.Sorted(maps.Keys(kept)), slices.Sorted(maps.Keys(encoded)), "the forms in %s (-update writes it anew)", path)
	for _, name := range slices.Sorted(maps.Keys(encoded)) {
		require.True(t, bytes.Equal(kept[name], encoded[name]), "%s in %s is another form from byte %d on (-update writes it anew)", name, path, common(kept[name], encoded[name]))
	}
}

// CheckText is Check for texts, each of which is kept on a line as Go would quote
// it, so that the file and its changes can be read.
func CheckText(t require.TestingT, path string, texts map[string]string) {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		fmt.Fprintf(&out, "%s %s\n", name, strconv.Quote(texts[name]))
	}
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(out.String()), 0o644))
	}
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(kept), out.String(), "the texts in %s (-update writes it anew)", path)
}

// common returns the length of what a and b begin with alike.
func common(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// Read returns the encoded values in a file, by name.
func Read(t require.TestingT, path string) map[string][]byte {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	kept := map[string][]byte{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		name, form, _ := strings.Cut(lines.Text(), " ")
		b, err := hex.DecodeString(form)
		require.NoError(t, err, name)
		kept[name] = b
	}
	require.NoError(t, lines.Err())
	return kept
}

func write(t require.TestingT, path string, encoded map[string][]byte) {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(encoded)) {
		fmt.Fprintf(&out, "%s %x\n", name, encoded[name])
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(out.String()), 0o644))
}

// Fill sets every exported field of what x points to, and all that is in it, to a
// value of its own that is not zero. Fields of the types of samples get those
// samples. A field that is added later is set, too.
func Fill[T any](x T, samples ...any) T {
	f := filler{samples: map[reflect.Type]reflect.Value{}}
	for _, s := range samples {
		f.samples[reflect.TypeOf(s)] = reflect.ValueOf(s)
	}
	f.fill(reflect.ValueOf(x).Elem())
	return x
}

type filler struct {
	samples map[reflect.Type]reflect.Value
	next    uint64
}

func (f *filler) fill(v reflect.Value) {
	if sample, ok := f.samples[v.Type()]; ok {
		v.Set(sample)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				f.fill(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Interface: // as it is
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		f.next++
		v.SetString(fmt.Sprintf("text %d", f.next))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		f.next++
		v.SetInt(int64(1 + f.next%100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		f.next++
		v.SetUint(1 + f.next%100)
	default:
		panic(fmt.Sprintf("golden: no value for a %v", v.Type()))
	}
}

// NoZero fails when an exported field of what x points to, or of anything in it,
// is zero: a form in which it is missing would hold nothing of it. Records within one of
// their own type are not looked at again.
func NoZero(t require.TestingT, x any) {
	noZero(t, reflect.ValueOf(x).Type().String(), reflect.ValueOf(x), nil)
}

func noZero(t require.TestingT, path string, v reflect.Value, within []reflect.Type) {
	require.False(t, v.IsZero() && v.Kind() != reflect.Struct, "%s is zero", path)
	switch v.Kind() {
	case reflect.Pointer:
		noZero(t, path, v.Elem(), within)
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				noZero(t, path+"."+field.Name, v.Field(i), append(within, v.Type()))
			}
		}
	case reflect.Slice:
		require.NotZero(t, v.Len(), "%s is empty", path)
		for i := range v.Len() {
			if slices.Contains(within, v.Type().Elem()) {
				continue
			}
			noZero(t, path, v.Index(i), within)
		}
	}
}

// Keep writes a whole file with -update, and only then.
func Keep(t require.TestingT, path string, content []byte) {
	if *update {
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
}
