package cluster

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
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
func reports(spec string) map[string]NodeStatus {
	out := make(map[string]NodeStatus)
	for _, r := range strings.Fields(spec) {
		s := NodeStatus{Term: 7}
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
			got, next := nextPromotion(servers(c.servers), reports(c.reports), 7, 500, c.seen)
			require.Equal(t, c.want, got)
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

func TestMetadataFits512(t *testing.T) {
	b, err := encodeMeta(gossipMeta{
		InternalAddr: strings.Repeat("a", 120) + ":7000",
		HTTPURL:      "https://" + strings.Repeat("b", 240) + ":8443",
		Version:      "v10.20.30-rc.1+20261231.abcdef0",
	})
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), memberlist.MetaMaxSize)
	got, err := decodeMeta(b)
	require.NoError(t, err)
	require.Contains(t, got.HTTPURL, "bbb")

	_, err = encodeMeta(gossipMeta{HTTPURL: strings.Repeat("b", memberlist.MetaMaxSize)})
	require.ErrorContains(t, err, "at most 512")
}

func TestValidateNamesTheFault(t *testing.T) {
	good := Config{ID: "n", ClusterID: "c", DataDir: "d", Key: [32]byte{1}, InternalAddr: "127.0.0.1:0"}
	require.NoError(t, good.withDefaults().Validate())
	for want, spoil := range map[string]func(*Config){
		"node id":          func(c *Config) { c.ID = "" },
		"cluster id":       func(c *Config) { c.ClusterID = strings.Repeat("c", 65) },
		"data directory":   func(c *Config) { c.DataDir = "" },
		"cluster key":      func(c *Config) { c.Key = [32]byte{} },
		"internal address": func(c *Config) { c.InternalAddr = "nowhere" },
		"gossip address":   func(c *Config) { c.GossipAddr = "nowhere" },
		"time-out scale":   func(c *Config) { c.TimeoutScale = -1 },
	} {
		c := good
		spoil(&c)
		require.ErrorContains(t, c.withDefaults().Validate(), want)
	}
}

func TestLogsOfLibrariesReachSlog(t *testing.T) {
	var out bytes.Buffer
	to := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))
	l := newRaftLogger(to)
	l.Info("quiet")
	l.Warn("failed to get previous log", "error", "x")
	l.Warn("heartbeat timeout reached", "last-leader", "n1")
	g := newGossipLogger(to)
	g.Print("[DEBUG] memberlist: quiet")
	g.Print("[WARN] memberlist: loud")
	require.NotContains(t, out.String(), "quiet")
	require.NotContains(t, out.String(), "previous log")
	require.Contains(t, out.String(), "level=WARN msg=\"raft: heartbeat timeout reached\" last-leader=n1")
	require.Contains(t, out.String(), "level=WARN msg=\"gossip: memberlist: loud\" line=\"memberlist: loud\"")
}
