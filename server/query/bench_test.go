package query_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/query"
)

// BenchmarkManyQueries compares one item of 15 KB with 1000 queries of 14
// comparisons each: what a change of a map costs that so many follow.
func BenchmarkManyQueries(b *testing.B) {
	data := []byte(fmt.Sprintf(`{"a":1,"text":%q,"z":2}`, strings.Repeat("x", 15<<10)))
	queries := make([]*query.Query, 1000)
	for i := range queries {
		var parts []string
		for k := range 14 {
			parts = append(parts, fmt.Sprintf(`f%d_%d == "x"`, i, k))
		}
		q, err := query.Parse(strings.Join(parts, " or "))
		require.NoError(b, err)
		queries[i] = q
	}
	b.Run("each on its own", func(b *testing.B) {
		for b.Loop() {
			for _, q := range queries {
				q.Match("k", data)
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		for b.Loop() {
			i := query.NewItem("k", data)
			for _, q := range queries {
				q.MatchItem(i)
			}
		}
	})
}
