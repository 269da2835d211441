package query

import "github.com/tidwall/gjson"

// Item is an item as queries see it. What one query finds out about its data is
// kept for the next ones, so that comparing an item with many queries costs
// little more than reading it once. It is not safe for concurrent use.
type Item struct {
	key    string
	data   []byte
	once   bool    // only one query looks: keep nothing
	object *object // the data, once it is known
}

// NewItem returns an item with this key and this data, which must be a compact
// JSON value, as items are stored.
func NewItem(key string, data []byte) *Item { return &Item{key: key, data: data} }

// object is a JSON object whose members are known.
type object struct {
	members map[string]*member
}

type member struct {
	value gjson.Result
	inner *object // the value, once it is known
}

// newObject reads an object's members. The first of those with the same name
// counts. It returns nil if the value is not an object.
func newObject(value gjson.Result) *object {
	if !value.IsObject() {
		return nil
	}
	o := &object{members: make(map[string]*member)}
	value.ForEach(func(name, value gjson.Result) bool {
		if _, known := o.members[name.Str]; !known {
			o.members[name.Str] = &member{value: value}
		}
		return true
	})
	return o
}

// find goes from object to object.
func (i *Item) find(names []string) gjson.Result {
	if i.object == nil {
		if len(i.data) == 0 || i.data[0] != '{' {
			return gjson.Result{}
		}
		i.object = newObject(gjson.ParseBytes(i.data))
	}
	at := i.object
	for n, name := range names {
		m := at.members[name]
		switch {
		case m == nil:
			return gjson.Result{}
		case n == len(names)-1:
			return m.value
		case m.inner == nil:
			if m.inner = newObject(m.value); m.inner == nil {
				return gjson.Result{}
			}
		}
		at = m.inner
	}
	return gjson.Result{}
}
