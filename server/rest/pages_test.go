package rest_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// shelf is a collection with n entries, each of which has a value of its own in
// one member.
type shelf struct {
	name   string
	at     string
	member string
	values []string
}

// shelves makes every kind of collection with n entries.
func shelves(c *client, n int) []shelf {
	for _, plural := range []string{"Documents", "Lists", "Maps", "Streams"} {
		for i := range n {
			c.post(home+"/"+plural, "UniqueName", fmt.Sprintf("n%03d", i))
		}
	}
	var out []shelf
	for _, plural := range []string{"Documents", "Lists", "Maps", "Streams"} {
		out = append(out, shelf{name: strings.ToLower(plural), at: home + "/" + plural, member: "unique_name"})
	}
	out = append(out,
		shelf{name: "items", at: home + "/Lists/n000/Items", member: "index"},
		shelf{name: "items", at: home + "/Maps/n000/Items", member: "key"},
		shelf{name: "permissions", at: home + "/Maps/n000/Permissions", member: "identity"},
		shelf{name: "services", at: "/v1/Services", member: "sid"},
	)
	for i := range n {
		c.post(home+"/Lists/n000/Items", "Data", "1")
		c.post(home+"/Maps/n000/Items", "Key", fmt.Sprintf("k%03d", i), "Data", "1")
		c.post(fmt.Sprintf("%s/Maps/n000/Permissions/p%03d", home, i), "Read", "true", "Write", "true", "Manage", "true")
		c.post("/v1/Services")
	}
	for i := range out {
		out[i].values = out[i].of(c.get(out[i].at + "?PageSize=100"))
	}
	return out
}

// of returns the values on a page.
func (s *shelf) of(page reply) []string {
	var out []string
	for _, e := range page.json[s.name].([]any) {
		out = append(out, fmt.Sprint(e.(map[string]any)[s.member]))
	}
	return out
}

func meta(page reply) map[string]any { return page.json["meta"].(map[string]any) }

// walk follows the links of a name from a page to the end.
func (s *shelf) walk(c *client, page reply, link string) (pages []reply) {
	for {
		pages = append(pages, page)
		next := meta(page)[link]
		if next == nil {
			return pages
		}
		require.Less(c.t, len(pages), 500, "pages without end")
		page = c.get(path(c.t, next))
	}
}

func TestPagesLeadThereAndBack(t *testing.T) {
	c := start(t)
	for _, s := range shelves(c, 23) {
		for _, size := range []int{1, 4, 23, 24, 100} {
			pages := s.walk(c, c.get(fmt.Sprintf("%s?PageSize=%d", s.at, size)), "next_page_url")
			var forward []string
			for i, p := range pages {
				forward = append(forward, s.of(p)...)
				m := meta(p)
				require.Equal(t, s.name, m["key"])
				require.EqualValues(t, i, m["page"])
				require.EqualValues(t, size, m["page_size"])
				require.Equal(t, s.of(p), s.of(c.get(path(t, m["url"]))))
				require.Equal(t, s.of(pages[0]), s.of(c.get(path(t, m["first_page_url"]))))
				require.Equal(t, i == 0, m["previous_page_url"] == nil)
			}
			require.Equal(t, s.values, forward)

			back := s.walk(c, pages[len(pages)-1], "previous_page_url")
			require.Len(t, back, len(pages))
			slices.Reverse(back)
			for i, p := range back {
				require.Equal(t, s.of(pages[i]), s.of(p))
				require.EqualValues(t, i, meta(p)["page"])
			}
			again := s.walk(c, back[0], "next_page_url")
			require.Len(t, again, len(pages))
		}
	}
}

func TestPageSizes(t *testing.T) {
	c := start(t)
	s := shelves(c, 120)[5]
	require.EqualValues(t, 100, meta(c.get(s.at + "?PageSize=99999999999999999999999"))["page_size"])
	require.Empty(t, s.of(c.get(home+"/Lists/n000/Items?From=99999999999999999999")))
	require.Len(t, s.of(c.get(s.at+"?PageSize=1000&Order=desc")), 100)
	all := c.get(s.at)
	require.Len(t, s.of(all), 50)
	require.EqualValues(t, 50, meta(all)["page_size"])
	for _, size := range []string{"100", "101", "1000", "99999999999"} {
		page := c.get(s.at + "?PageSize=" + size)
		require.Len(t, s.of(page), 100)
		require.EqualValues(t, 100, meta(page)["page_size"])
	}
	for _, number := range []string{"-1", "x", "99999999999999", "1.5"} {
		require.EqualValues(t, 0, meta(c.get(s.at + "?Page=" + number))["page"])
	}
}

// An entry that goes or comes while somebody turns pages neither hides nor
// repeats another.
func TestPagesOfACollectionThatChanges(t *testing.T) {
	c := start(t)
	rapid.Check(t, func(t *rapid.T) {
		m := c.post(home + "/Maps").json
		at := path(c.t, m["links"].(map[string]any)["items"])
		key := rapid.StringMatching(`[a-h]{1,2}`)
		size := rapid.IntRange(1, 5).Draw(t, "size")
		order := rapid.SampledFrom([]string{"asc", "desc"}).Draw(t, "order")
		put := func(k string) { c.send("POST", at, encode("Key", k, "Data", "1")) }
		for _, k := range rapid.SliceOfN(key, 0, 20).Draw(t, "before") {
			put(k)
		}
		steady := map[string]bool{} // there all the time
		s := shelf{name: "items", member: "key"}
		for _, k := range s.of(c.get(at + "?PageSize=100")) {
			steady[k] = true
		}
		var seen []string
		next := fmt.Sprintf("%s?PageSize=%d&Order=%s", at, size, order)
		for {
			page := c.get(next)
			seen = append(seen, s.of(page)...)
			if meta(page)["next_page_url"] == nil {
				break
			}
			next = path(c.t, meta(page)["next_page_url"])
			if rapid.Bool().Draw(t, "remove") {
				k := key.Draw(t, "key")
				c.send("DELETE", at+"/"+k, "")
				delete(steady, k)
			}
			if k := key.Draw(t, "add"); !steady[k] {
				put(k)
			}
		}
		require.True(t, slices.IsSortedFunc(seen, func(a, b string) int {
			if order == "desc" {
				a, b = b, a
			}
			return strings.Compare(a, b)
		}), "%v", seen)
		require.Len(t, slices.Compact(slices.Clone(seen)), len(seen), "%v", seen)
		for k := range steady {
			require.Contains(t, seen, k)
		}
	})
}

// Whatever is asked of a map, pages forwards and backwards give the same.
func TestItemQueries(t *testing.T) {
	c := start(t)
	rapid.Check(t, func(t *rapid.T) {
		m := c.post(home + "/Maps").json
		at := path(c.t, m["links"].(map[string]any)["items"])
		var keys []string
		for _, k := range rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z +&.]{1,3}`), 0, 12, rapid.ID).Draw(t, "keys") {
			c.post(at, "Key", k, "Data", "1")
			keys = append(keys, k)
		}
		slices.Sort(keys)
		from := rapid.StringMatching(`[a-z +&.]{0,2}`).Draw(t, "from")
		desc, exclusive := rapid.Bool().Draw(t, "desc"), rapid.Bool().Draw(t, "exclusive")
		var want []string
		for _, k := range keys {
			switch {
			case from == "", k == from && !exclusive, k > from && !desc, k < from && desc:
				want = append(want, k)
			}
		}
		query := url.Values{"PageSize": {fmt.Sprint(rapid.IntRange(1, 4).Draw(t, "size"))}, "Order": {"asc"}, "Bounds": {"inclusive"}}
		if desc {
			slices.Reverse(want)
			query.Set("Order", "desc")
		}
		if exclusive {
			query.Set("Bounds", "exclusive")
		}
		if from != "" {
			query.Set("From", from)
		}
		s := shelf{name: "items", member: "key"}
		pages := s.walk(c, c.get(at+"?"+query.Encode()), "next_page_url")
		var forward []string
		for _, p := range pages {
			forward = append(forward, s.of(p)...)
		}
		require.Equal(t, want, forward)

		var back []string
		turned := s.walk(c, pages[len(pages)-1], "previous_page_url")
		require.Len(t, turned, len(pages))
		for _, p := range turned {
			back = append(s.of(p), back...)
		}
		require.Equal(t, want, back)

		// The token alone knows where what was asked for begins.
		alone := func(link any) string {
			_, token, given := strings.Cut(link.(string), "PageToken=")
			require.True(t, given)
			return at + "?PageToken=" + token
		}
		back = nil
		page := pages[0]
		for i := 1; i < len(pages); i++ {
			page = c.get(alone(meta(page)["next_page_url"]))
			require.Equal(t, s.of(pages[0]), s.of(c.get(path(c.t, meta(page)["first_page_url"]))))
			require.Equal(t, s.of(pages[i]), s.of(page))
		}
		for back = s.of(page); meta(page)["previous_page_url"] != nil; back = append(s.of(page), back...) {
			page = c.get(alone(meta(page)["previous_page_url"]))
		}
		require.Equal(t, want, back)
	})
}

func TestPageTokenBelongsToCollectionAndOrder(t *testing.T) {
	c := start(t)
	all := shelves(c, 5)
	c.post(home+"/Lists", "UniqueName", "other")
	for i, s := range all {
		next := path(t, meta(c.get(s.at + "?PageSize=2"))["next_page_url"])
		_, token, _ := strings.Cut(next, "PageToken=")
		require.Regexp(t, "^[A-Za-z0-9_-]+$", token)
		for j, other := range all {
			answer := c.send("GET", other.at+"?PageToken="+token, "")
			if i == j {
				require.Equal(t, 200, answer.Code)
				continue
			}
			answer.refused(t, 400, 54453)
		}
		damaged := "B" + token[1:]
		c.send("GET", s.at+"?PageToken="+damaged, "").refused(t, 400, 54453)
		c.send("GET", s.at+"?PageToken="+token[:len(token)-2], "").refused(t, 400, 54453)
		other := "A"
		if token[8] == 'A' {
			other = "B"
		}
		c.send("GET", s.at+"?PageToken="+token[:8]+other+token[9:], "").refused(t, 400, 54453)
		if s.name == "items" {
			c.send("GET", s.at+"?Order=desc&PageToken="+token, "").refused(t, 400, 54453)
		}
	}
	c.send("GET", home+"/Lists/other/Items?PageToken="+strings.Repeat("A", 400), "").refused(t, 400, 54453)
}

func TestPageThatIsGoneRefersToTheFirst(t *testing.T) {
	c := start(t)
	c.post(home+"/Lists", "UniqueName", "it")
	at := home + "/Lists/it/Items"
	for range 4 {
		c.post(at, "Data", "1")
	}
	second := path(t, meta(c.get(at + "?PageSize=2"))["next_page_url"])
	first := path(t, meta(c.get(second))["previous_page_url"])
	c.remove(at + "/2")
	c.remove(at + "/3")
	gone := meta(c.get(second))
	require.Nil(t, gone["next_page_url"])
	require.Equal(t, gone["first_page_url"], gone["previous_page_url"])
	c.remove(at + "/0")
	c.remove(at + "/1")
	gone = meta(c.get(first))
	require.Nil(t, gone["previous_page_url"])
	require.Equal(t, gone["first_page_url"], gone["next_page_url"])
}

// A token alone is enough: the pages stay as long, and in the order, as the
// first was asked for.
func TestPagesCanBeTurnedByTheTokenAlone(t *testing.T) {
	c := start(t)
	for _, s := range shelves(c, 13) {
		orders := []string{""}
		if s.name == "items" {
			orders = append(orders, "&Order=desc")
		}
		for _, order := range orders {
			turn := func(page reply, link string) (reply, bool) {
				url, ok := meta(page)[link].(string)
				if !ok {
					return page, false
				}
				_, token, given := strings.Cut(url, "PageToken=")
				require.True(t, given, url)
				return c.get(s.at + "?PageToken=" + token), true
			}
			first := c.get(s.at + "?PageSize=5" + order)
			pages := [][]string{s.of(first)}
			page, more := turn(first, "next_page_url")
			for ; more; page, more = turn(page, "next_page_url") {
				pages = append(pages, s.of(page))
			}
			require.Len(t, pages, 3)
			require.Equal(t, []int{5, 5}, []int{len(pages[0]), len(pages[1])})
			for i := 1; i >= 0; i-- {
				page, more = turn(page, "previous_page_url")
				require.True(t, more)
				require.Equal(t, pages[i], s.of(page))
			}
			all := slices.Concat(pages...)
			if order != "" {
				slices.Reverse(all)
			}
			require.Equal(t, s.values, all)
		}
	}
}
