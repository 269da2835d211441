package rest

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"

	"lockstep/objects"
	"lockstep/server/api"
)

// paging is the page that a request wants.
type paging struct {
	api.PageQuery
	number int // the client's own count of pages; it carries no meaning
}

func (c *call) paging() (paging, error) {
	query, err := api.ParsePageQuery(c.params.get)
	return paging{query, c.pageNumber()}, err
}

func (c *call) pageNumber() int {
	n, err := strconv.ParseUint(c.params.get("Page"), 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}

func only(is bool, text string) string {
	if is {
		return text
	}
	return ""
}

// pageOf is a page that has been read: entries of the collection under a key,
// of what the SID names. more reports whether there are more of them in the
// direction of reading.
type pageOf[T any] struct {
	paging
	key      string
	of       objects.SID
	entries  []T
	more     bool
	position func(T) string
	write    func([]byte, T) []byte
}

func (p *pageOf[T]) collection() api.Collection { return api.Collection{Name: p.key, Of: p.of} }

// answer writes the page.
func (p *pageOf[T]) answer(c *call) (answer, error) {
	if err := p.Check(p.collection()); err != nil {
		return answer{}, err
	}
	b := make([]byte, 0, 1024+512*len(p.entries))
	b = append(b, '{', '"')
	b = append(b, p.key...)
	b = append(b, `":[`...)
	for i, e := range p.entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.write(b, e)
	}
	b = append(b, `],"meta":{"key":"`...)
	b = append(b, p.key...)
	b = append(b, `","page":`...)
	b = strconv.AppendInt(b, int64(p.number), 10)
	b = append(b, `,"page_size":`...)
	b = strconv.AppendInt(b, int64(p.Size), 10)
	b = append(b, `,"first_page_url":`...)
	b = c.appendPageURL(b, &p.paging, 0, "")
	b = append(b, `,"url":`...)
	b = c.appendPageURL(b, &p.paging, p.number, p.ownToken())
	b = append(b, `,"previous_page_url":`...)
	b = p.appendPrevious(b, c)
	b = append(b, `,"next_page_url":`...)
	b = p.appendNext(b, c)
	return answer{status: http.StatusOK, body: append(b, "}}"...)}, nil
}

func (p *pageOf[T]) ownToken() string {
	if p.Cursor == nil {
		return ""
	}
	return p.Cursor.String()
}

// From a page that turned out empty, because what was on it is gone, there is
// no position to turn from. Such a page refers to the first one.

func (p *pageOf[T]) appendPrevious(b []byte, c *call) []byte {
	switch {
	case p.Cursor == nil, p.Back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return c.appendPageURL(b, &p.paging, 0, "")
	}
	return c.appendPageURL(b, &p.paging, max(p.number-1, 0), p.PageBefore(p.collection(), p.position(p.entries[0])))
}

func (p *pageOf[T]) appendNext(b []byte, c *call) []byte {
	switch {
	case !p.Back() && !p.more:
		return append(b, "null"...)
	case len(p.entries) == 0:
		return c.appendPageURL(b, &p.paging, 0, "")
	}
	return c.appendPageURL(b, &p.paging, p.number+1, p.PageAfter(p.collection(), p.position(p.entries[len(p.entries)-1])))
}

// appendPageURL appends the URL of a page of the collection that was asked for,
// as a JSON string. It repeats what the request said of the collection, or the
// token that it came with.
func (c *call) appendPageURL(b []byte, p *paging, number int, token string) []byte {
	u := make([]byte, 0, 256)
	u = append(append(u, c.encoder.Origin...), cleanPath(c.url)...)
	u = append(u, "?PageSize="...)
	u = strconv.AppendInt(u, int64(p.Size), 10)
	for _, asked := range []struct{ name, kept string }{
		{"Order", only(p.Desc, "desc")}, {"From", p.Start.From}, {"Bounds", only(p.Start.Exclusive, "exclusive")},
	} {
		if value := cmp.Or(c.params.get(asked.name), asked.kept); value != "" {
			u = append(append(append(u, '&'), asked.name...), '=')
			u = append(u, url.QueryEscape(value)...)
		}
	}
	u = append(u, "&Page="...)
	u = strconv.AppendInt(u, int64(number), 10)
	if token != "" {
		u = append(append(u, "&PageToken="...), token...)
	}
	return objects.AppendString(b, string(u))
}
