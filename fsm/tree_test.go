package fsm

import (
	"cmp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// pair is a value of a tree that has more than its place.
type pair struct{ key, value int }

func lessPair(a, b pair) bool { return a.key < b.key }

// listed is the plainest of all ordered trees: what the other is compared with.
type listed []pair

func (l *listed) find(key int) (int, bool) {
	return slices.BinarySearchFunc(*l, key, func(x pair, key int) int { return cmp.Compare(x.key, key) })
}

func (l *listed) set(x pair) (replaced pair, ok bool) {
	i, found := l.find(x.key)
	if found {
		replaced, (*l)[i] = (*l)[i], x
		return replaced, true
	}
	*l = slices.Insert(*l, i, x)
	return replaced, false
}

func (l *listed) delete(key int) (removed pair, ok bool) {
	i, found := l.find(key)
	if found {
		removed = (*l)[i]
		*l = slices.Delete(*l, i, i+1)
	}
	return removed, found
}

// sound fails unless a tree has the form of one.
func sound(t require.TestingT, tr *tree[pair]) {
	if tr.root == nil {
		require.Zero(t, tr.Len())
		return
	}
	depths, count := map[int]bool{}, 0
	var walk func(n *node[pair], depth int)
	walk = func(n *node[pair], depth int) {
		require.NotEmpty(t, n.values)
		require.LessOrEqual(t, len(n.values), maxValues)
		require.LessOrEqual(t, n.generation, tr.generation)
		count += len(n.values)
		if n.children == nil {
			depths[depth] = true
			return
		}
		require.Len(t, n.children, len(n.values)+1)
		for _, c := range n.children {
			walk(c, depth+1)
		}
	}
	walk(tr.root, 0)
	require.Len(t, depths, 1, "all leaves are equally deep")
	require.Equal(t, tr.Len(), count)
}

// same fails unless a tree reads as a list does, from a key in either direction.
func same(t require.TestingT, want listed, tr *tree[pair], from, limit int) {
	require.Equal(t, len(want), tr.Len())
	require.Equal(t, append([]pair{}, want...), tr.Items())
	i, found := want.find(from)
	got, ok := tr.Get(pair{key: from})
	require.Equal(t, found, ok)
	if found {
		require.Equal(t, want[i], got)
	}
	up, down := []pair{}, []pair{}
	tr.Ascend(pair{key: from}, func(x pair) bool { up = append(up, x); return len(up) < limit })
	require.Equal(t, append([]pair{}, want[i:min(len(want), i+limit)]...), up)
	end := i
	if found {
		end++
	}
	tr.Descend(pair{key: from}, func(x pair) bool { down = append(down, x); return len(down) < limit })
	slices.Reverse(down)
	require.Equal(t, append([]pair{}, want[max(0, end-limit):end]...), down)
	least, some := tr.Min()
	require.Equal(t, len(want) > 0, some)
	most, some := tr.Max()
	require.Equal(t, len(want) > 0, some)
	if some {
		require.Equal(t, want[0], least)
		require.Equal(t, want[len(want)-1], most)
	}
}

// A tree does what a sorted list does, in whatever order values come and go, and so
// does each of its copies, from the state on in which it was made.
func TestTreeIsASortedList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(0, rapid.SampledFrom([]int{100, 1000, 20_000}).Draw(t, "keys"))
		type version struct {
			tree tree[pair]
			list listed
		}
		all := []*version{{tree: newTree(lessPair)}}
		value := 0
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			v := all[rapid.IntRange(0, len(all)-1).Draw(t, "version")]
			count := rapid.IntRange(1, 300).Draw(t, "count")
			key := keys.Draw(t, "key")
			what := rapid.SampledFrom([]string{"set", "upwards", "downwards", "push", "delete", "delete a stretch", "delete the first", "copy"}).Draw(t, "what")
			for n := range count {
				value++
				switch what {
				case "upwards":
					key++
				case "downwards":
					key--
				case "push":
					if most, ok := v.tree.Max(); ok {
						key = most.key + 1
					}
					v.tree.push(pair{key, value})
					v.list = append(v.list, pair{key, value})
					continue
				case "copy":
					if n == 0 {
						all = append(all, &version{tree: v.tree.Copy(), list: slices.Clone(v.list)})
					}
					continue
				case "delete a stretch":
					if i, _ := v.list.find(key); i < len(v.list) {
						key = v.list[i].key
					}
				case "delete the first":
					if least, ok := v.tree.Min(); ok {
						key = least.key
					}
				default:
					key = (key*7919 + 31*n) % 20_011
				}
				if what == "set" || what == "upwards" || what == "downwards" {
					was, replaced := v.tree.Set(pair{key, value})
					wanted, there := v.list.set(pair{key, value})
					require.Equal(t, there, replaced)
					require.Equal(t, wanted, was)
					continue
				}
				was, removed := v.tree.Delete(pair{key: key})
				wanted, there := v.list.delete(key)
				require.Equal(t, there, removed)
				require.Equal(t, wanted, was)
			}
		}
		for _, v := range all {
			sound(t, &v.tree)
			same(t, v.list, &v.tree, keys.Draw(t, "from"), rapid.IntRange(1, 400).Draw(t, "limit"))
		}
	})
}

// Values that come in order fill the nodes, and many that go leave few.
func TestNodesOfATreeAreFull(t *testing.T) {
	const n = 100_000
	nodes := func(tr *tree[pair]) (count, room int) {
		var walk func(n *node[pair])
		walk = func(n *node[pair]) {
			count++
			room += cap(n.values)
			for _, c := range n.children {
				walk(c)
			}
		}
		walk(tr.root)
		return count, room
	}
	for name, c := range map[string]struct {
		key  func(int) int
		most int // values that there may be room for
	}{
		"in order":             {func(i int) int { return i }, n * 10 / 9},
		"two orders in turn":   {func(i int) int { return i%2*n + i }, n * 6 / 5},
		"in no order":          {func(i int) int { return i * 7919 % 100_003 }, n * 4 / 3},
		"in the reverse order": {func(i int) int { return n - i }, n * 4 / 3},
	} {
		tr := newTree(lessPair)
		for i := range n {
			tr.Set(pair{key: c.key(i)})
		}
		sound(t, &tr)
		count, room := nodes(&tr)
		require.Less(t, room, c.most, name)
		require.Less(t, count*minValues, n, name)
		for i := range n - 100 {
			tr.Delete(pair{key: c.key(i)})
		}
		sound(t, &tr)
		count, _ = nodes(&tr)
		require.LessOrEqual(t, count, 2+100/minValues, name)
	}
}
