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

// A function whose every failure is a refusal may return *objects.Error, nil for
// none; everything else returns error. Where a *objects.Error becomes an error, in
// any package of the program, it must be one for certain: an error that holds a nil
// *objects.Error is not nil.
//
// Certain are the values of the catalogue, what functions of objects make of them,
// and a variable or a field inside of an if, or a case, that asks whether it is
// nil. Conversions to other interfaces are not looked at: arguments of a log line
// may be nil.

func TestNilRefusalNeverBecomesError(t *testing.T) {
	l := loadTypes(t, "./cmd/...")
	for _, p := range l.packages {
		if !strings.HasPrefix(p.ImportPath, "lockstep/") {
			continue
		}
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, 0)
			require.NoError(t, err)
			files = append(files, f)
		}
		for _, found := range l.uncertainErrors(t, p.ImportPath, files) {
			t.Error(found)
		}
	}
}

func TestRefusalThatMayBeNoneIsFound(t *testing.T) {
	l := loadTypes(t, "./objects")
	check := func(body string) []string {
		source := `package x; import "lockstep/objects"
func decide() *objects.Error { return nil }
func decideTwice() (int, *objects.Error) { return 0, nil }
func take(...error) {}
func takeBoth(int, error) {}
type result struct { err *objects.Error }
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
		`func f(r, s result) { if r.err != nil { take(s.err) } }`,
		`func f() (int, error) { return decideTwice() }`,
		`func f() { var err error; _, err = decideTwice(); _ = err }`,
		`func f() { var n, err any = 0, error(nil); _, _ = n, err; takeBoth(decideTwice()) }`,
		`func f() { var all chan error; all <- decide() }`,
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
		`func f(r result) error { if r.err != nil { return r.err }; return nil }`,
		`func f() *objects.Error { return decide() }`,
		`func f() { n, refused := decideTwice(); _, _ = n, refused }`,
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
		c.each(n.Results, results.Len(), func(i int) types.Type { return results.At(i).Type() })
	case *ast.AssignStmt:
		c.each(n.Rhs, len(n.Lhs), func(i int) types.Type { return c.info.TypeOf(n.Lhs[i]) })
	case *ast.SendStmt:
		if channel, ok := c.info.TypeOf(n.Chan).Underlying().(*types.Chan); ok {
			c.into(channel.Elem(), n.Value)
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
	last := signature.Params().Len() - 1
	count := len(n.Args)
	if count == 1 {
		if several, ok := c.info.TypeOf(n.Args[0]).(*types.Tuple); ok {
			count = several.Len()
		}
	}
	c.each(n.Args, count, func(i int) types.Type {
		if i < last || !signature.Variadic() || n.Ellipsis.IsValid() {
			return signature.Params().At(i).Type()
		}
		if s, ok := signature.Params().At(last).Type().(*types.Slice); ok {
			return s.Elem()
		}
		return nil // bytes of a string that are appended
	})
}

// each looks at values that go to so many places of these types. One call may
// return all of them.
func (c *conversions) each(values []ast.Expr, places int, target func(int) types.Type) {
	if len(values) == places {
		for i, x := range values {
			c.into(target(i), x)
		}
		return
	}
	if len(values) != 1 {
		return
	}
	if several, ok := c.info.TypeOf(values[0]).(*types.Tuple); ok {
		for i := range several.Len() {
			if isError(target(i)) && isRefusal(several.At(i).Type()) {
				c.say(values[0])
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
	if isError(target) && isRefusal(c.info.TypeOf(x)) && !c.isCertain(x) {
		c.say(x)
	}
}

func isError(t types.Type) bool {
	return t != nil && types.Identical(t, types.Universe.Lookup("error").Type())
}

func isRefusal(t types.Type) bool { return t != nil && t.String() == "*lockstep/objects.Error" }

func (c *conversions) isCertain(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.UnaryExpr:
		return x.Op == token.AND
	case *ast.SelectorExpr:
		return isCatalogue(c.info.Uses[x.Sel]) || c.isAskedFor(x)
	case *ast.CallExpr:
		switch f := x.Fun.(type) {
		case *ast.SelectorExpr:
			return isOfObjects(c.info.Uses[f.Sel])
		case *ast.Ident:
			return isOfObjects(c.info.Uses[f])
		}
	case *ast.Ident:
		return isCatalogue(c.info.Uses[x]) || c.isAskedFor(x)
	}
	return false
}

// isAskedFor reports whether x is inside of an if, or a case, that holds only if x
// is not nil.
func (c *conversions) isAskedFor(x ast.Expr) bool {
	for i, n := range c.stack {
		switch n := n.(type) {
		case *ast.IfStmt:
			if i+1 < len(c.stack) && c.stack[i+1] == n.Body && c.asksFor(n.Cond, x) {
				return true
			}
		case *ast.CaseClause:
			if len(n.List) == 1 && c.asksFor(n.List[0], x) {
				return true
			}
		}
	}
	return false
}

// asksFor reports whether a condition holds only if x is not nil.
func (c *conversions) asksFor(cond, x ast.Expr) bool {
	b, ok := cond.(*ast.BinaryExpr)
	if !ok {
		return false
	}
	if b.Op == token.LAND {
		return c.asksFor(b.X, x) || c.asksFor(b.Y, x)
	}
	right, ok := b.Y.(*ast.Ident)
	return ok && right.Name == "nil" && b.Op == token.NEQ && c.isSame(b.X, x)
}

// isSame reports whether two expressions are the same variable, or the same field
// of the same variable.
func (c *conversions) isSame(a, b ast.Expr) bool {
	switch a := a.(type) {
	case *ast.Ident:
		b, ok := b.(*ast.Ident)
		return ok && c.info.Uses[a] == c.info.Uses[b]
	case *ast.SelectorExpr:
		b, ok := b.(*ast.SelectorExpr)
		return ok && c.info.Uses[a.Sel] == c.info.Uses[b.Sel] && c.isSame(a.X, b.X)
	}
	return false
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
