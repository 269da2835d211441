package explain_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/cmd/lockstep/internal/explain"
	"lockstep/objects"
)

// A new error of the catalogue is explained, or this fails.
func TestEveryErrorIsExplained(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "..", "..", "objects", "errors.go"), nil, 0)
	require.NoError(t, err)
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Err") {
			return true
		}
		want := explain.Entry{}
		for _, element := range spec.Values[0].(*ast.UnaryExpr).X.(*ast.CompositeLit).Elts {
			field := element.(*ast.KeyValueExpr)
			value := field.Value.(*ast.BasicLit).Value
			switch field.Key.(*ast.Ident).Name {
			case "Code":
				want.Code, err = strconv.Atoi(value)
			case "Status":
				want.Status, err = strconv.Atoi(value)
			case "Message":
				want.Message, err = strconv.Unquote(value)
			}
			require.NoError(t, err)
		}
		want.Do = explain.Advice(want.Code, want.Status, want.Message)
		require.Contains(t, explain.Code(want.Code), want, spec.Names[0].Name)
		require.True(t, strings.HasSuffix(want.Do, "."), "%s: what to do is a sentence", spec.Names[0].Name)
		found++
		return true
	})
	require.Greater(t, found, 60)
	require.Len(t, explain.All(), found, "an error that no longer exists is explained")
}

func TestAdviceOfCodeThatStandsForSeveralThings(t *testing.T) {
	of := func(e *objects.Error) string { return explain.Advice(e.Code, e.Status, e.Message) }
	require.NotEqual(t, of(objects.ErrSecondToken), of(objects.ErrNoSecondToken))
	require.NotEqual(t, of(objects.ErrUnavailable), of(objects.ErrOverloaded))
	require.Equal(t, of(objects.ErrNotFound), of(objects.ErrNotFound.With("The requested resource /Services/default was not found")))
	require.Empty(t, explain.Advice(99999, 400, ""))
	require.Empty(t, explain.Code(99999))
	require.Len(t, explain.Code(54301), 1)
}
