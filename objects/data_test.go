package objects_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestParseDataCompactsAndKeepsValue(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                               `{}`,
		" { \"a\" :\t[ 1 ,\r\n2 ] } ":      `{"a":[1,2]}`,
		`{"b":1,"a":2}`:                    `{"b":1,"a":2}`,
		`{"n":123456789012345678901}`:      `{"n":123456789012345678901}`,
		`{"n":1.10e+2}`:                    `{"n":1.10e+2}`,
		`"\u003cb\u003e \u0026 \u2028"`:    "\"<b> & \u2028\"",
		`"\u0041\/\u00e9"`:                 `"A/é"`,
		`"\ud83d\ude00"`:                   `"😀"`,
		`"\ud83d x \ude00"`:                `"\ud83d x \ude00"`,
		`"\u0000\u001f\u000a\u0022\u005c"`: `"\u0000\u001f\n\"\\"`,
		`"  spaces  in \" strings  "`:      `"  spaces  in \" strings  "`,
		`[ "\\" , "\\\\ " ]`:               `["\\","\\\\ "]`,
		`17`:                               `17`,
		`false`:                            `false`,
		"{\"\u2028\":\"\u007f\"}":          "{\"\u2028\":\"\u007f\"}",
		`{"a":{"a":{"a":[[[[null]]]]}}}`:   `{"a":{"a":{"a":[[[[null]]]]}}}`,
	} {
		got, err := objects.ParseData([]byte(in), objects.KindDocument)
		require.NoError(t, err, in)
		require.Equal(t, want, string(got), in)
	}
}

func TestParseDataRefuses(t *testing.T) {
	for _, in := range []string{"", "{", "{}x", "NaN", "{'a':1}", "\"\xff\"", "\"\xe2\x80\"", strings.Repeat("[", 8000) + strings.Repeat("]", 8000)} {
		_, err := objects.ParseData([]byte(in), objects.KindMap)
		require.ErrorIs(t, err, objects.ErrData, in)
	}
	for kind, want := range map[objects.Kind]error{
		objects.KindDocument: objects.ErrDocumentNull, objects.KindList: objects.ErrListItemNull,
		objects.KindMap: objects.ErrMapItemNull, objects.KindStream: objects.ErrMessageNull,
	} {
		_, err := objects.ParseData([]byte(" null\n"), kind)
		require.ErrorIs(t, err, want)
	}
}

func TestParseDataCountsCompactBytes(t *testing.T) {
	fill := func(n int, unit string) []byte {
		room := n - len(`{"p":""}`)
		return []byte(`{"p":"` + strings.Repeat(unit, room/len(unit)) + strings.Repeat("x", room%len(unit)) + `"}`)
	}
	for kind, limit := range map[objects.Kind]int{objects.KindDocument: 16384, objects.KindList: 16384, objects.KindMap: 16384, objects.KindStream: 4096} {
		for _, unit := range []string{"x", "é", "大", "😀"} {
			_, err := objects.ParseData(fill(limit, unit), kind)
			require.NoError(t, err)
			_, err = objects.ParseData(fill(limit+1, unit), kind)
			require.ErrorIs(t, err, objects.ErrTooLarge)
		}
	}
	escaped := bytes.ReplaceAll(fill(16384, "<"), []byte("<"), []byte(`\u003c`))
	got, err := objects.ParseData(append([]byte("   "), escaped...), objects.KindDocument)
	require.NoError(t, err)
	require.Len(t, got, 16384)
}

func FuzzParseData(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e7,"\ud83d\ude00\u0000\/"]}`, " [ ] ", `"\ud800"`, "null", "{\"a\":1,\"a\":2}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := objects.ParseData(bytes.Clone(raw), objects.KindDocument)
		if err != nil {
			return
		}
		require.True(t, utf8.Valid(got))
		require.LessOrEqual(t, len(got), objects.MaxData)
		var before, after any
		require.NoError(t, json.Unmarshal(raw, &before))
		require.NoError(t, json.Unmarshal(got, &after))
		require.True(t, reflect.DeepEqual(before, after), "%q became %q", raw, got)
		again, err := objects.ParseData(bytes.Clone(got), objects.KindDocument)
		require.NoError(t, err)
		require.Equal(t, got, again)
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("plain \"quoted\" \\ \n \x00 \u2028 😀")
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) {
			return
		}
		var back string
		require.NoError(t, json.Unmarshal(objects.AppendString(nil, s), &back))
		require.Equal(t, s, back)
	})
}

func BenchmarkParseData(b *testing.B) {
	raw := []byte(`{"id":12345,"name":"some item","tags":["a","b","c"],"position":{"x":1.5,"y":2.5},"text":"` + strings.Repeat("x", 150) + `"}`)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := objects.ParseData(raw, objects.KindMap); err != nil {
			b.Fatal(err)
		}
	}
}
