package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
	"github.com/stretchr/testify/require"
)

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
