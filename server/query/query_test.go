package query_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/query"
)

// people are the items of most cases, keyed as in a map.
var people = map[string]string{
	"ann": `{"team":"red","lang":["en","de"],"age":31,"address":{"city":"Graz"},"note":"a/b é"}`,
	"ben": `{"team":"blue","lang":["en"],"age":45,"address":{"city":"Bern"},"note":null}`,
	"cid": `{"team":"red","lang":["es"],"age":27,"on":true,"key":"dee","data":{"x":"deep"}}`,
	"dee": `{"team":"green","lang":[],"name":"say \"hi\"","tags":[1,true,null,["n"],{"o":1}]}`,
}

func matches(t *testing.T, text string) string {
	t.Helper()
	q, err := query.Parse(text)
	require.NoError(t, err, text)
	var keys []string
	for _, key := range []string{"ann", "ben", "cid", "dee"} {
		if q.Match(key, []byte(people[key])) {
			keys = append(keys, key)
		}
	}
	return strings.Join(keys, " ")
}

func TestMatch(t *testing.T) {
	for _, c := range []struct{ name, query, want string }{
		{"empty", ``, "ann ben cid dee"},
		{"blank", " \t\r\n", "ann ben cid dee"},

		{"equal", `team == "red"`, "ann cid"},
		{"equal as a word", `team eq "red"`, "ann cid"},
		{"equal in capitals", `team EQ "red"`, "ann cid"},
		{"not equal", `team != "red"`, "ben dee"},
		{"not equal as a word", `team not_eq "red"`, "ben dee"},
		{"not equal in capitals", `team NOT_EQ "red"`, "ben dee"},
		{"no blanks", `team=="red"`, "ann cid"},
		{"upper case differs", `team == "Red"`, ""},

		{"in", `team in ["red", "green"]`, "ann cid dee"},
		{"in capitals", `team IN ["red","green"]`, "ann cid dee"},
		{"in nothing", `team in []`, ""},
		{"in an array", `lang IN ["es", "de"]`, "ann cid"},
		{"not in", `team not_in ["red","green"]`, "ben"},
		{"not in capitals", `team NOT_IN ["red","green"]`, "ben"},
		{"not in nothing", `team not_in []`, "ann ben cid dee"},
		{"not in an array", `lang NOT_IN ["es","de"]`, "ben dee"},

		{"contains a part", `team contains "re"`, "ann cid dee"},
		{"contains nothing", `team CONTAINS ""`, "ann ben cid dee"},
		{"contains an element", `lang CONTAINS "en"`, "ann ben"},
		{"contains no part of an element", `lang CONTAINS "e"`, ""},
		{"an object contains nothing", `address contains "city"`, ""},
		{"contains a digit", `age contains "4"`, "ben"},

		{"and", `team == "red" and lang contains "es"`, "cid"},
		{"or", `team == "blue" or team == "green"`, "ben dee"},
		{"and before or", `team == "red" && lang contains "es" || team == "blue"`, "ben cid"},
		{"or before and", `team == "blue" OR team == "red" AND lang CONTAINS "es"`, "ben cid"},
		{"group", `(team == "blue" OR team == "red") AND lang CONTAINS "en"`, "ann ben"},
		{"no blanks around signs", `(team=="blue"||team=="red")&&lang contains"en"`, "ann ben"},
		{"groups in groups", `((team == "blue") or ((team == "red" and (age == "27"))))`, "ben cid"},

		{"dotted path", `address.city == "Bern"`, "ben"},
		{"leading data", `data.team == "blue"`, "ben"},
		{"leading data of a path", `data.address.city == "Graz"`, "ann"},
		{"a member called data", `data.data.x == "deep"`, "cid"},
		{"the member data itself", `data == "{\"x\":\"deep\"}"`, "cid"},
		{"key", `key == "dee"`, "dee"},
		{"part of a key", `key contains "e"`, "ben dee"},
		{"key in", `key in ["ann", "cid"]`, "ann cid"},
		{"a member called key", `data.key == "dee"`, "cid"},
		{"below a member called key", `key.x == "dee"`, ""},
		{"a path beyond a string", `team.x == "red"`, ""},
		{"a path into an array", `lang.0 == "en"`, ""},
		{"the length of an array", `lang.# == "2"`, ""},

		{"number", `age == "45"`, "ben"},
		{"another spelling of a number", `age == "45.0"`, ""},
		{"boolean", `on == "true"`, "cid"},
		{"null", `note == "null"`, "ben"},
		{"array as text", `lang == "[\"en\",\"de\"]"`, "ann"},
		{"array as other text", `lang != "[\"en\",\"de\"]"`, "ben cid dee"},
		{"object as text", `address == "{\"city\":\"Bern\"}"`, "ben"},
		{"elements that are no strings", `tags contains "1" and tags contains "true" and tags contains "null"`, "dee"},
		{"nested elements as text", `tags in ["[\"n\"]"] and tags contains "{\"o\":1}"`, "dee"},

		{"absent equals nothing", `nothing == "x"`, ""},
		{"absent differs", `nothing != "x" and team == "red"`, "ann cid"},
		{"absent is in nothing", `nothing in ["x"]`, ""},
		{"absent is in none", `nothing not_in ["x"]`, "ann ben cid dee"},
		{"absent contains nothing", `nothing contains ""`, ""},
		{"absent is not null", `on == "null"`, ""},

		{"escaped quotes", `name == "say \"hi\""`, "dee"},
		{"other escapes", `note == "a\/b \u00e9"`, "ann"},
		{"words have no meaning as fields", `and == "x" or in == "y" or team == "red"`, "ann cid"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, matches(t, c.query)) })
	}
}

func TestMatchFieldNamesWithPathSyntax(t *testing.T) {
	for _, name := range []string{
		"*", "a*", "a?", "#", "@this", "@reverse", "~true", "a-b", "$ref", "%", "x:y", "x/y", "0", ":0", ";", "^", "+", "ключ", "🙂", "é",
	} {
		q, err := query.Parse(name + ` == "yes" and in.` + name + ` == "no"`)
		require.NoError(t, err, name)
		require.True(t, q.Match("k", []byte(`{"`+name+`":"yes","in":{"`+name+`":"no"}}`)), name)
		require.False(t, q.Match("k", []byte(`{"ab":"yes","in":{"ab":"no"}}`)), name)
		require.False(t, q.Match("k", []byte(`{"in":["no"],"x":"yes"}`)), name)
	}
}

func TestMatchFindsNamesThatAreEscaped(t *testing.T) {
	q, err := query.Parse(`a/b == "1"`)
	require.NoError(t, err)
	require.True(t, q.Match("k", []byte(`{"a\/b":"1"}`)))
}

func TestMatchDataThatIsNoObject(t *testing.T) {
	q, err := query.Parse(`0 == "x" or # == "1" or x == "x"`)
	require.NoError(t, err)
	for _, data := range []string{`["x"]`, `"x"`, `1`, `true`, `[]`, `{}`, ``} {
		require.False(t, q.Match("k", []byte(data)), data)
	}
}

func TestMatchTakesTheFirstOfEqualNames(t *testing.T) {
	q, err := query.Parse(`a == "1"`)
	require.NoError(t, err)
	require.True(t, q.Match("k", []byte(`{"a":"1","a":"2"}`)))
	require.False(t, q.Match("k", []byte(`{"a":"2","a":"1"}`)))
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		query  string
		offset int
	}{
		{`team ==`, 7},
		{`== "x"`, 0},
		{`team "x"`, 5},
		{`team == x`, 8},
		{`team == 'x'`, 8},
		{`team == "x" AND`, 15},
		{`team == "x" or`, 14},
		{`(team == "x"`, 12},
		{`team == "x")`, 11},
		{`()`, 1},
		{`team IN "x"`, 8},
		{`team IN [`, 9},
		{`team IN ["x"`, 12},
		{`team IN ["x",]`, 13},
		{`team IN ["x" "y"]`, 13},
		{`team == ["x"]`, 8},
		{`team contains ["x"]`, 14},
		{`team == "x" team == "y"`, 12},
		{`team == "x" And team == "y"`, 12},
		{`team == "x"and_team == "y"`, 11},
		{`team == "x" & team == "y"`, 12},
		{`team > "x"`, 5},
		{`team = "x"`, 5},
		{`team === "x"`, 7},
		{`team Eq "x"`, 5},
		{`team in_ ["x"]`, 5},
		{`not team == "x"`, 4},
		{`team not in ["x"]`, 5},
		{`"`, 0},
		{`team == "`, 8},
		{`team == "x\"`, 8},
		{`team == "\x"`, 8},
		{`team == "\u12"`, 8},
		{"team == \"a\nb\"", 8},
		{`"team" == "x"`, 0},
		{`.team == "x"`, 0},
		{`team. == "x"`, 0},
		{`a..b == "x"`, 0},
		{`data. == "x"`, 0},
		{"team == \"\xff\"", 0},
		{"\x00", 0},
	} {
		q, err := query.Parse(c.query)
		require.Nil(t, q, c.query)
		var syntax *query.SyntaxError
		require.ErrorAs(t, err, &syntax, c.query)
		require.Equal(t, c.offset, syntax.Offset, "%s: %s", c.query, syntax.Reason)
		require.NotEmpty(t, syntax.Reason)
	}
}

func TestParseLimits(t *testing.T) {
	ofLength := func(n int) string { return `a == "` + strings.Repeat("x", n-7) + `"` }
	_, err := query.Parse(ofLength(query.MaxLength))
	require.NoError(t, err)
	_, err = query.Parse(ofLength(query.MaxLength + 1))
	require.EqualError(t, err, "query: at offset 4096: a query has at most 4096 bytes")

	ofDepth := func(n int) string {
		return strings.Repeat("(", n) + `a == "x"` + strings.Repeat(")", n)
	}
	_, err = query.Parse(ofDepth(query.MaxDepth))
	require.NoError(t, err)
	_, err = query.Parse(ofDepth(query.MaxDepth + 1))
	require.ErrorContains(t, err, "nest deeper than 64")
	_, err = query.Parse(strings.Repeat("(", query.MaxLength))
	require.ErrorContains(t, err, "nest deeper than 64")

	ofComparisons := func(n int, one string) string {
		return strings.TrimSuffix(strings.Repeat(one+" or ", n), " or ")
	}
	nested := strings.Repeat("(", 10) + `a == "x"` + strings.Repeat(")", 10)
	_, err = query.Parse(ofComparisons(15, nested))
	require.NoError(t, err, "closed parentheses do not count; 15 comparisons and 14 or are 29 operators")
	_, err = query.Parse(ofComparisons(16, `a == "x"`))
	require.ErrorIs(t, err, query.ErrTooManyOperators)
	_, err = query.Parse(ofComparisons(16, `a == "x"`) + " and")
	require.ErrorAs(t, err, new(*query.SyntaxError), "what is no query is not counted")

	ofValues := func(n int) string {
		return `a in [` + strings.TrimSuffix(strings.Repeat(`"x",`, n), ",") + `]`
	}
	_, err = query.Parse(ofValues(query.MaxValues))
	require.NoError(t, err)
	_, err = query.Parse(ofValues(query.MaxValues + 1))
	require.ErrorIs(t, err, query.ErrTooManyValues)
}

func TestString(t *testing.T) {
	for _, c := range []struct{ canonical, spellings string }{
		{``, "\n  "},
		{`team=="red"`, "team == \"red\"\nteam EQ \"red\"\n  data.team   eq\t\"r\\u0065d\"  \n((team == \"red\"))"},
		{`a!="1"`, "a not_eq \"1\"\na NOT_EQ \"1\""},
		{`a in["x","y"]`, `data.a IN [ "x" , "y" ]`},
		{`a not_in[]`, `a NOT_IN [ ]`},
		{`a contains"é/"`, `a CONTAINS "\u00E9\/"`},
		{`a=="1"&&b=="2"&&c=="3"`, "a == \"1\" and (b == \"2\" AND c == \"3\")\n(a == \"1\" && b == \"2\") && c == \"3\""},
		{`a=="1"||b=="2"||c=="3"`, "a == \"1\" or (b == \"2\" OR (c == \"3\"))"},
		{`a=="1"&&b=="2"||c=="3"`, "(a == \"1\" and b == \"2\") or c == \"3\"\na eq \"1\" and b eq \"2\" or c eq \"3\""},
		{`(a=="1"||b=="2")&&c=="3"`, "((a == \"1\") or b == \"2\") and (c == \"3\")"},
		{`key=="k"`, "key eq \"k\""},
		{`data.key=="k"`, "data.key eq \"k\""},
		{`data.data.x=="k"`, "data.data.x == \"k\""},
		{`data=="k"`, "data == \"k\"\ndata.data == \"k\""},
		{`a=="\"\\\n\u0001"`, `a == "\u0022\u005c\u000a\u0001"`},
	} {
		for _, text := range append(strings.Split(c.spellings, "\n"), c.canonical) {
			q, err := query.Parse(text)
			require.NoError(t, err, text)
			require.Equal(t, c.canonical, q.String(), text)
		}
	}
}

func TestStringTellsDifferentQueriesApart(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		``, `a == "1"`, `a != "1"`, `a == "2"`, `b == "1"`, `a in ["1"]`, `a not_in ["1"]`, `a contains "1"`,
		`a in ["1","2"]`, `a in ["1,2"]`, `a == "1" and b == "2"`, `a == "1" or b == "2"`,
		`a == "1" and (b == "2" or c == "3")`, `a == "1" and b == "2" or c == "3"`,
		`key == "1"`, `data.key == "1"`, `a.b == "1"`, `data.data.a == "1"`,
	} {
		q, err := query.Parse(text)
		require.NoError(t, err)
		require.Empty(t, seen[q.String()], text)
		seen[q.String()] = text
	}
}

func BenchmarkMatch(b *testing.B) {
	q, err := query.Parse(`(team == "blue" OR team == "red") AND lang CONTAINS "de" AND address.city == "Graz"`)
	require.NoError(b, err)
	data := []byte(`{"filler":"` + strings.Repeat("x", 200) + `",` + people["ann"][1:])
	b.ReportAllocs()
	for b.Loop() {
		if !q.Match("ann", data) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := query.Parse(`(team == "blue" OR team == "red") AND lang CONTAINS "de"`); err != nil {
			b.Fatal(err)
		}
	}
}
