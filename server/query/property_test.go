package query_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
	"lockstep/server/query"
)

// FuzzParse: no text panics, and canonical text is a fixed point which means
// what the query means.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		``, `team == "red"`, `(a eq "1" OR data.b.c NOT_IN ["x","y"]) && key contains "\u00e9\ud83d\ude42\ud800"`,
		`a in []`, `data.data.x != "\"" || data.key == "k"`, `((((a=="1"))))`, `a == `, `"`, `(`, `a..b == "x"`,
	} {
		f.Add(text, "key", `{"a":"1","b":{"c":["x"]},"data":{"x":1},"team":"red"}`)
	}
	f.Fuzz(func(t *testing.T, text, key, data string) {
		q, err := query.Parse(text)
		if err != nil {
			var syntax *query.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.True(t, syntax.Offset >= 0 && syntax.Offset <= len(text))
			return
		}
		canonical := q.String()
		require.LessOrEqual(t, len(canonical), len(text))
		again, err := query.Parse(canonical)
		require.NoError(t, err, canonical)
		require.Equal(t, canonical, again.String())
		if item, err := objects.ParseData([]byte(data), objects.KindMap); err == nil {
			require.Equal(t, q.Match(key, item), again.Match(key, item))
			require.Equal(t, q.Match(key, item), q.MatchItem(query.NewItem(key, item)))
		}
	})
}

// TestMatchAgainstModel compares with an evaluator that decodes the data and
// walks the tree from which the text was written.
func TestMatchAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		item := drawObject(t, 2)
		data, err := json.Marshal(item)
		require.NoError(t, err)
		text, want := drawQuery(t, 3)
		q, err := query.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want("a", item), q.Match("a", data), "%s on %s", text, data)
		shared := query.NewItem("a", data)
		for range 2 {
			require.Equal(t, want("a", item), q.MatchItem(shared), "%s on %s, read once for many", text, data)
		}
		again, err := query.Parse(q.String())
		require.NoError(t, err, q)
		require.Equal(t, want("a", item), again.Match("a", data), "%s on %s", q, data)
	})
}

type meaning func(key string, item map[string]any) bool

var (
	names = rapid.SampledFrom([]string{"a", "b", "key", "data", "0", "#"})
	words = rapid.SampledFrom([]string{"", "a", "b", "ab", "1", "true", "null", `["a"]`, `"`, "\\", "é"})
)

func drawObject(t *rapid.T, depth int) map[string]any {
	object := map[string]any{}
	for range rapid.IntRange(0, 5).Draw(t, "members") {
		object[names.Draw(t, "name")] = drawValue(t, depth)
	}
	return object
}

func drawValue(t *rapid.T, depth int) any {
	switch rapid.IntRange(0, 6).Draw(t, "type") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.IntRange(0, 2).Draw(t, "number")
	case 3:
		if depth > 0 {
			return drawObject(t, depth-1)
		}
	case 4:
		if depth > 0 {
			list := make([]any, rapid.IntRange(0, 3).Draw(t, "length"))
			for i := range list {
				list[i] = drawValue(t, depth-1)
			}
			return list
		}
	}
	return words.Draw(t, "string")
}

// drawQuery writes a query in some of the many ways, and says what it means.
func drawQuery(t *rapid.T, depth int) (string, meaning) {
	kind := rapid.IntRange(0, 2).Draw(t, "kind")
	if depth == 0 || kind == 0 {
		return drawComparison(t)
	}
	left, leftMeans := drawQuery(t, depth-1)
	right, rightMeans := drawQuery(t, depth-1)
	if kind == 1 {
		or := rapid.SampledFrom([]string{" or ", " OR ", "||", "\n|| "}).Draw(t, "or")
		return "(" + left + or + right + ")", func(k string, i map[string]any) bool { return leftMeans(k, i) || rightMeans(k, i) }
	}
	and := rapid.SampledFrom([]string{" and ", " AND ", "&&", "\t&& "}).Draw(t, "and")
	text := left + and + right
	if rapid.Bool().Draw(t, "parentheses") {
		text = "( " + text + " )"
	}
	return text, func(k string, i map[string]any) bool { return leftMeans(k, i) && rightMeans(k, i) }
}

func drawComparison(t *rapid.T) (string, meaning) {
	path := rapid.SliceOfN(names, 1, 3).Draw(t, "path")
	text := strings.Join(path, ".")
	if text == "key" || path[0] == "data" || rapid.Bool().Draw(t, "leading data") {
		text = "data." + text
	}
	if rapid.IntRange(0, 9).Draw(t, "on the key") == 0 {
		text, path = "key", nil
	}
	values := rapid.SliceOfN(words, 1, 3).Draw(t, "values")
	op := rapid.SampledFrom([]string{"==", "eq", "EQ", "!=", "not_eq", "NOT_EQ", "in", "IN", "not_in", "NOT_IN", "contains", "CONTAINS"}).Draw(t, "operator")
	lower := strings.ToLower(op)
	if strings.HasSuffix(lower, "in") {
		return text + " " + op + " " + quoted(t, values), compare(path, lower, values)
	}
	return text + " " + op + " " + quoted(t, values[0]), compare(path, lower, values[:1])
}

func quoted(t *rapid.T, v any) string {
	literal, err := json.Marshal(v)
	require.NoError(t, err)
	return string(literal)
}

func compare(path []string, op string, values []string) meaning {
	return func(key string, item map[string]any) bool {
		var value any = key
		found := true
		if path != nil {
			value, found = lookUp(item, path)
		}
		negated := op == "!=" || strings.HasPrefix(op, "not_")
		return (found && holds(value, op, values)) != negated
	}
}

func lookUp(value any, path []string) (any, bool) {
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

func holds(value any, op string, values []string) bool {
	elements, isArray := value.([]any)
	isOne := func(e any) bool { return slices.Contains(values, textOf(e)) }
	switch op {
	case "in", "not_in", "contains":
		if isArray {
			return slices.ContainsFunc(elements, isOne)
		}
		if _, isObject := value.(map[string]any); isObject && op == "contains" {
			return false
		}
		if op == "contains" {
			return strings.Contains(textOf(value), values[0])
		}
	}
	return isOne(value)
}

func textOf(value any) string {
	if s, ok := value.(string); ok {
		return s
	}
	literal, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(literal)
}
