package architecture

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who decides about a refusal has it as *objects.Error, and nil is none. Everybody
// else has errors. Where the one becomes the other there has to be one for
// certain: a nil *objects.Error in an error is an error that is not nil.
//
// Certain are the values of the catalogue, what functions of objects make of them,
// and a variable inside of an if, or a case, that asks whether it is nil.

// refusalsHeld are the packages that this is checked for.
var refusalsHeld = []string{"lockstep/objects", "lockstep/fsm"}

func TestNilRefusalNeverBecomesError(t *testing.T) {
	l := loadTypes(t, "./fsm")
	for _, p := range l.packages {
		if !slices.Contains(refusalsHeld, p.ImportPath) {
			continue
		}
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, 0)
			require.NoError(t, err)
			files = append(files, f)
		}
		require.Empty(t, l.uncertainErrors(t, p.ImportPath, files))
	}
}

func TestRefusalThatMayBeNoneIsFound(t *testing.T) {
	l := loadTypes(t, "./fsm")
	check := func(body string) []string {
		source := `package x; import "lockstep/objects"
func decide() *objects.Error { return nil }
func take(...error) {}
` + body
		f, err := parser.ParseFile(l.fset, "x.go", source, 0)
		require.NoError(t, err)
		return l.uncertainErrors(t, "lockstep/x", []*ast.File{f})
	}
	for _, body := range []string{
		`func f() error { return decide() }`,
		`func f() error { refused := decide(); return refused }`,
		`func f() (int, error) { refused := decide(); if refused == nil { return 0, refused }; return 1, nil }`,
		`func f() { var err error; err = decide(); _ = err }`,
		`func f() { var err error = decide(); _ = err }`,
		`func f() { take(decide()) }`,
		`func f() { take(nil, decide()) }`,
		`func f() { _ = struct{ err error }{decide()} }`,
		`func f() { _ = struct{ err error }{err: decide()} }`,
		`func f() { _ = error(decide()) }`,
		`func f() { _ = func() error { return decide() } }`,
		`func f() { refused, other := decide(), decide(); if refused != nil { take(other) } }`,
	} {
		require.NotEmpty(t, check(body), body)
	}
	for _, body := range []string{
		`func f() error { return objects.ErrNotFound }`,
		`func f() error { return objects.ErrNotFound.With("x") }`,
		`func f() error { return objects.ErrGone(objects.KindMap) }`,
		`func f() error { if refused := decide(); refused != nil { return refused }; return nil }`,
		`func f() error { refused := decide(); switch { case refused != nil: return refused }; return nil }`,
		`func f() error { refused := decide(); if 1 > 0 && refused != nil { take(refused) }; return nil }`,
		`func f() *objects.Error { return decide() }`,
	} {
		require.Empty(t, check(body), body)
	}
}

// uncertainErrors returns where a *objects.Error becomes an error that may be nil.
func (l *typeLoader) uncertainErrors(t *testing.T, path string, files []*ast.File) (found []string) {
	info := &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{},
		Defs: map[*ast.Ident]types.Object{},
	}
	config := types.Config{Importer: l.importer}
	_, err := config.Check(path, l.fset, files, info)
	require.NoError(t, err)
	c := &conversions{info: info, say: func(at ast.Node) {
		found = append(found, fmt.Sprintf("%v: a refusal that may be nil becomes an error", l.fset.Position(at.Pos())))
	}}
	for _, f := range files {
		ast.Inspect(f, c.visit)
	}
	return found
}

// conversions looks for values of one type that become another.
type conversions struct {
	info  *types.Info
	say   func(ast.Node)
	stack []ast.Node
}

func (c *conversions) visit(n ast.Node) bool {
	if n == nil {
		c.stack = c.stack[:len(c.stack)-1]
		return true
	}
	c.stack = append(c.stack, n)
	switch n := n.(type) {
	case *ast.ReturnStmt:
		results := c.signature().Results()
		for i, x := range n.Results {
			if len(n.Results) == results.Len() {
				c.into(results.At(i).Type(), x)
			}
		}
	case *ast.AssignStmt:
		for i, x := range n.Rhs {
			if len(n.Rhs) == len(n.Lhs) {
				c.into(c.info.TypeOf(n.Lhs[i]), x)
			}
		}
	case *ast.ValueSpec:
		for _, x := range n.Values {
			if n.Type != nil {
				c.into(c.info.TypeOf(n.Type), x)
			}
		}
	case *ast.CompositeLit:
		c.literal(n)
	case *ast.CallExpr:
		c.call(n)
	}
	return true
}

func (c *conversions) literal(n *ast.CompositeLit) {
	switch t := c.info.TypeOf(n).Underlying().(type) {
	case *types.Struct:
		for i, x := range n.Elts {
			if pair, ok := x.(*ast.KeyValueExpr); ok {
				c.into(c.info.TypeOf(pair.Key), pair.Value)
			} else {
				c.into(t.Field(i).Type(), x)
			}
		}
	case interface{ Elem() types.Type }: // slices, arrays, maps
		for _, x := range n.Elts {
			if pair, ok := x.(*ast.KeyValueExpr); ok {
				x = pair.Value
			}
			c.into(t.Elem(), x)
		}
	}
}

func (c *conversions) call(n *ast.CallExpr) {
	if called := c.info.Types[n.Fun]; called.IsType() {
		c.into(called.Type, n.Args[0])
		return
	}
	signature, ok := c.info.TypeOf(n.Fun).(*types.Signature)
	if !ok {
		return // a built-in function
	}
	for i, x := range n.Args {
		last := signature.Params().Len() - 1
		switch {
		case i < last || i == last && !signature.Variadic():
			c.into(signature.Params().At(i).Type(), x)
		case signature.Variadic() && !n.Ellipsis.IsValid():
			if s, ok := signature.Params().At(last).Type().(*types.Slice); ok {
				c.into(s.Elem(), x)
			}
		}
	}
}

// signature returns that of the innermost function around.
func (c *conversions) signature() *types.Signature {
	for _, n := range slices.Backward(c.stack) {
		switch n := n.(type) {
		case *ast.FuncLit:
			return c.info.TypeOf(n).(*types.Signature)
		case *ast.FuncDecl:
			return c.info.Defs[n.Name].Type().(*types.Signature)
		}
	}
	panic("no function around")
}

func (c *conversions) into(target types.Type, x ast.Expr) {
	if target == nil || !types.Identical(target, types.Universe.Lookup("error").Type()) {
		return
	}
	if t := c.info.TypeOf(x); t != nil && t.String() == "*lockstep/objects.Error" && !c.isCertain(x) {
		c.say(x)
	}
}

func (c *conversions) isCertain(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.UnaryExpr:
		return x.Op == token.AND
	case *ast.SelectorExpr:
		return isCatalogue(c.info.Uses[x.Sel])
	case *ast.CallExpr:
		switch f := x.Fun.(type) {
		case *ast.SelectorExpr:
			return isOfObjects(c.info.Uses[f.Sel])
		case *ast.Ident:
			return isOfObjects(c.info.Uses[f])
		}
	case *ast.Ident:
		if isCatalogue(c.info.Uses[x]) {
			return true
		}
		for i, n := range c.stack {
			switch n := n.(type) {
			case *ast.IfStmt:
				if i+1 < len(c.stack) && c.stack[i+1] == n.Body && c.asksFor(n.Cond, x) {
					return true
				}
			case *ast.CaseClause:
				if slices.ContainsFunc(n.List, func(cond ast.Expr) bool { return len(n.List) == 1 && c.asksFor(cond, x) }) {
					return true
				}
			}
		}
	}
	return false
}

// asksFor reports whether a condition holds only if x is not nil.
func (c *conversions) asksFor(cond ast.Expr, x *ast.Ident) bool {
	b, ok := cond.(*ast.BinaryExpr)
	if !ok {
		return false
	}
	if b.Op == token.LAND {
		return c.asksFor(b.X, x) || c.asksFor(b.Y, x)
	}
	left, ok := b.X.(*ast.Ident)
	right, isNil := b.Y.(*ast.Ident)
	return ok && isNil && b.Op == token.NEQ && right.Name == "nil" && c.info.Uses[left] == c.info.Uses[x]
}

// isCatalogue reports whether something is a variable of a package, which nobody
// changes.
func isCatalogue(o types.Object) bool {
	v, ok := o.(*types.Var)
	return ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope()
}

// isOfObjects reports whether a function is one of the catalogue's, which return
// an error always.
func isOfObjects(o types.Object) bool {
	return o != nil && o.Pkg() != nil && strings.HasSuffix(o.Pkg().Path(), "lockstep/objects")
}
