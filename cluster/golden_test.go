package cluster

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/keyring"
	"lockstep/cluster/internal/membership"
	"lockstep/cluster/internal/readindex"
	"lockstep/cluster/internal/recall"
	"lockstep/cluster/internal/replica"
	"lockstep/objects"
	"lockstep/test/golden"
)

const goldenLevel1 = "testdata/golden/level1/"

// everyMessage is one of each that members tell each other, all fields set.
func everyMessage() []any {
	messages := []any{
		&membership.AddRequest{}, &membership.RemoveRequest{}, &membership.VouchRequest{}, &membership.Answer{}, &keyring.Request{}, &keyring.Answer{},
		&NodeStatus{}, &gossipMeta{},
		&readindex.Request{}, &readindex.Answer{}, &readindex.TermAnswer{},
		&replica.Request{}, &replica.Answer{}, &replica.CountRequest{}, &replica.Count{},
		&recall.Request{}, &recall.Extent{}, &recall.Told{},
	}
	for _, m := range messages {
		golden.Fill(m, objects.NewSID(objects.KindMap, [16]byte{2}), RoleFollower)
	}
	return messages
}

func TestMemberMessagesMatchGoldenFiles(t *testing.T) {
	forms, types := map[string][]byte{}, map[string]reflect.Type{}
	values := map[string]any{}
	for _, m := range everyMessage() {
		golden.NoZero(t, m)
		b, err := cbor.Marshal(m)
		require.NoError(t, err)
		typ := reflect.TypeOf(m).Elem()
		name := typ.String()
		forms[name], types[name], values[name] = b, typ, m
	}
	golden.Check(t, goldenLevel1+"messages", forms)
	for name, b := range golden.Read(t, goldenLevel1+"messages") {
		back := reflect.New(types[name]).Interface()
		require.NoError(t, cbor.Unmarshal(b, back), name)
		require.Equal(t, values[name], back, name)
	}
}

// TestEveryMessageHasGoldenFile looks for all types with numbered fields.
func TestEveryMessageHasGoldenFile(t *testing.T) {
	held := map[string]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
		case reflect.Struct:
			held[typ.Name()] = true
			for i := range typ.NumField() {
				walk(typ.Field(i).Type)
			}
		}
	}
	for _, m := range everyMessage() {
		walk(reflect.TypeOf(m))
	}
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok && numbered(s) {
				require.True(t, held[spec.Name.Name], "%s in %s is in no golden file", spec.Name.Name, path)
			}
			return true
		})
		return nil
	}))
}

func numbered(s *ast.StructType) bool {
	for _, f := range s.Fields.List {
		if f.Tag != nil && strings.Contains(f.Tag.Value, "cbor:") {
			return true
		}
	}
	return false
}
