package membership

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/cluster/internal/status"
)

func servers(spec string) []raft.Server {
	var out []raft.Server
	for _, id := range strings.Fields(spec) {
		name, nonvoter := strings.CutSuffix(id, "?")
		s := raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)}
		if nonvoter {
			s.Suffrage = raft.Nonvoter
		}
		out = append(out, s)
	}
	return out
}

// reports are written as "id:applied" or "id:applied@term".
func reports(spec string) map[string]status.Node {
	out := make(map[string]status.Node)
	for _, r := range strings.Fields(spec) {
		s := status.Node{Term: 7}
		id, rest, _ := strings.Cut(r, ":")
		if _, err := fmt.Sscanf(rest, "%d@%d", &s.AppliedIndex, &s.Term); err != nil {
			fmt.Sscanf(rest, "%d", &s.AppliedIndex)
		}
		s.Server, s.LastIndex = id, s.AppliedIndex
		out[id] = s
	}
	return out
}

func TestNextPromotion(t *testing.T) {
	for _, c := range []struct {
		name, servers, reports string
		seen, next             progress
		want                   string
	}{
		{name: "nobody joins", servers: "a b c", reports: "a:500 b:500 c:500", next: progress{}},
		{name: "first report", servers: "a d?", reports: "d:500", next: progress{"d": 1}},
		{name: "second report", servers: "a d?", reports: "d:450", seen: progress{"d": 1}, next: progress{"d": 2}, want: "d"},
		{name: "just near enough", servers: "a d?", reports: "d:400", seen: progress{"d": 1}, next: progress{"d": 2}, want: "d"},
		{name: "too far behind", servers: "a d?", reports: "d:399", seen: progress{"d": 1}, next: progress{}},
		{name: "silent", servers: "a d?", seen: progress{"d": 1}, next: progress{}},
		{name: "in another term", servers: "a d?", reports: "d:500@6", seen: progress{"d": 1}, next: progress{}},
		{name: "one at a time", servers: "a e? d?", reports: "d:500 e:500", seen: progress{"d": 1, "e": 3}, next: progress{"d": 2, "e": 4}, want: "d"},
		{name: "the other goes on", servers: "a d? e?", reports: "e:500", seen: progress{"d": 5, "e": 1}, next: progress{"e": 2}, want: "e"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next := c.seen.update(servers(c.servers), reports(c.reports), 7, 500)
			require.Equal(t, c.want, next.nextPromotion(func(string) bool { return true }))
			require.Equal(t, c.next, next)
		})
	}
}

func TestRemovalKeepsQuorum(t *testing.T) {
	for _, c := range []struct {
		name, servers, alive, remove string
		want                         bool
	}{
		{"one of three", "a b c", "a:1 b:1 c:1", "c", true},
		{"the dead one of three", "a b c", "a:1 b:1", "c", true},
		{"a live one beside a dead one", "a b c", "a:1 b:1", "b", false},
		{"one of two", "a b", "a:1 b:1", "b", true},
		{"the last", "a", "a:1", "a", false},
		{"a nonvoter, whatever else", "a b c d?", "a:1 b:1 d:1", "d", true},
		{"nonvoters do not count", "a b d? e?", "b:1 d:1 e:1", "b", false},
		{"one of five with one dead", "a b c d e", "a:1 b:1 c:1 d:1", "d", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, removalKeepsQuorum(servers(c.servers), c.remove, reports(c.alive)))
		})
	}
}
