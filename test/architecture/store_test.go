package architecture

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// storeMayUse is all that the store may know of other packages, names in them
// where only some are without a clock, chance or I/O. It holds for fsm and for
// what fsm reaches in this module, which is objects.
var storeMayUse = map[string][]string{
	"bufio": nil, "bytes": nil, "cmp": nil, "container/heap": nil, "crypto/sha256": nil, "encoding/binary": nil,
	"encoding/hex": nil, "encoding/json": nil, "errors": nil, "hash": nil, "hash/crc32": nil, "io": nil, "math": nil,
	"math/bits": nil, "net/url": nil, "reflect": nil, "slices": nil, "strconv": nil, "strings": nil, "sync": nil,
	"sync/atomic": nil, "unicode/utf16": nil, "unicode/utf8": nil,

	"context": {"Context"},
	"fmt":     {"Errorf", "Sprintf"},

	"github.com/hashicorp/raft":          {"BatchingFSM", "FSMSnapshot", "Log", "LogCommand", "SnapshotSink"},
	"github.com/fxamacker/cbor/v2":       nil,
	"github.com/cespare/xxhash/v2":       nil,
	"github.com/klauspost/compress/zstd": nil,
	"golang.org/x/sync/errgroup":         {"Group"}, // where a snapshot is read, and nowhere else: see modules
}

// TestStoreIsDeterministic keeps clocks, chance, I/O, goroutines and the order of
// maps out of what is applied: the same log has to give the same bytes on every
// node.
func TestStoreIsDeterministic(t *testing.T) {
	l := loadTypes(t, "./fsm")
	reached := 0
	for _, p := range l.packages {
		if !strings.HasPrefix(p.ImportPath, "lockstep/") {
			continue
		}
		reached++
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			require.NoError(t, err)
			files = append(files, f)
		}
		require.Empty(t, l.worldly(t, p.ImportPath, files))
	}
	require.Equal(t, 2, reached, "fsm reaches objects and nothing else of this module")
}

func TestWhatReachesTheWorldIsFound(t *testing.T) {
	l := loadTypes(t, "./fsm")
	for name, source := range map[string]string{
		"a clock":                   `import "time"; var now = time.Now()`,
		"a file":                    `import "os"; var _, _ = os.ReadFile("x")`,
		"the network":               `import "net"; var _, _ = net.Dial("tcp", "x")`,
		"chance":                    `import "crypto/rand"; func f(b []byte) { rand.Read(b) }`,
		"weak chance":               `import "math/rand/v2"; var x = rand.Int()`,
		"a clock of a context":      `import "context"; func f(c context.Context) { context.WithTimeout(c, 5) }`,
		"output":                    `import "fmt"; func f() { fmt.Println() }`,
		"raft itself":               `import "github.com/hashicorp/raft"; var r raft.Raft`,
		"a goroutine":               `func f() { go func() {}() }`,
		"the order of a map":        `func f(m map[int]int) (all []int) { for k := range m { all = append(all, k) }; return all }`,
		"that of a named one":       `type set map[int]bool; func f(m set) (all []int) { for k := range m { all = append(all, k) }; return all }`,
		"that of a type parameter":  `func f[M ~map[int]int](m M) (all []int) { for k := range m { all = append(all, k) }; return all }`,
		"that of a map by reflect":  `import "reflect"; func f(v reflect.Value) { for v.MapRange().Next() {} }`,
		"another package by a link": "import _ \"unsafe\"\n//go:linkname now time.now\nfunc now() (int64, int32, int64)",
	} {
		f, err := parser.ParseFile(l.fset, name+".go", "package x\n"+source, parser.ParseComments)
		require.NoError(t, err, name)
		require.NotEmpty(t, l.worldly(t, "lockstep/x", []*ast.File{f}), name)
	}
	f, err := parser.ParseFile(l.fset, "x.go", `package x; import "fmt"; func f(all []int) error { for range all {}; return fmt.Errorf("%v", all) }`, 0)
	require.NoError(t, err)
	require.Empty(t, l.worldly(t, "lockstep/x", []*ast.File{f}))
}

// worldly returns what a package uses that the store may not.
func (l *typeLoader) worldly(t *testing.T, path string, files []*ast.File) (found []string) {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Types: map[ast.Expr]types.TypeAndValue{}}
	config := types.Config{Importer: l.importer}
	_, err := config.Check(path, l.fset, files, info)
	require.NoError(t, err)
	say := func(at ast.Node, format string, args ...any) {
		found = append(found, fmt.Sprintf("%v: ", l.fset.Position(at.Pos()))+fmt.Sprintf(format, args...))
	}
	for _, f := range files {
		for _, group := range f.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:linkname") {
					say(c, "the store must not reach into other packages")
				}
			}
		}
		for _, spec := range f.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if _, ok := storeMayUse[imported]; !ok && !strings.HasPrefix(imported, "lockstep/") {
				say(spec, "the store must not import %s", imported)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				say(n, "the store must not start goroutines")
			case *ast.RangeStmt:
				if isMap(info.Types[n.X].Type) {
					say(n, "the store must not go by the order of a map")
				}
			case *ast.Ident:
				if use := info.Uses[n]; use != nil && !storeMay(use) {
					say(n, "the store must not use %v", use)
				}
			}
			return true
		})
	}
	return found
}

// storeMay reports whether the store may use an object of whichever package.
func storeMay(use types.Object) bool {
	if use.Pkg() == nil {
		return true
	}
	if use.Name() == "MapRange" || use.Name() == "MapKeys" {
		return use.Pkg().Path() != "reflect"
	}
	names := storeMayUse[use.Pkg().Path()]
	return names == nil || use.Parent() != use.Pkg().Scope() || slices.Contains(names, use.Name())
}

func isMap(t types.Type) bool {
	if p, ok := t.(*types.TypeParam); ok {
		return slices.ContainsFunc(termsOf(p), isMap)
	}
	_, ok := t.Underlying().(*types.Map)
	return ok
}

func termsOf(p *types.TypeParam) (terms []types.Type) {
	constraint := p.Constraint().Underlying().(*types.Interface)
	for i := range constraint.NumEmbeddeds() {
		union, ok := constraint.EmbeddedType(i).(*types.Union)
		for j := 0; ok && j < union.Len(); j++ {
			terms = append(terms, union.Term(j).Type())
		}
	}
	return terms
}

// typeLoader knows the types of packages as the compiler has written them.
type typeLoader struct {
	fset     *token.FileSet
	packages []exported // those that were asked for, and all that they reach
	importer types.Importer
}

type exported struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

func loadTypes(t *testing.T, patterns ...string) *typeLoader {
	cmd := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}, patterns...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	l := &typeLoader{fset: token.NewFileSet()}
	files := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p exported
		require.NoError(t, d.Decode(&p))
		l.packages = append(l.packages, p)
		files[p.ImportPath] = p.Export
	}
	l.importer = importer.ForCompiler(l.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(files[path]) })
	return l
}
