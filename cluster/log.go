package cluster

import (
	"context"
	"io"
	stdlog "log"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"

	"lockstep/cluster/loglimit"
)

// newRaftLogger passes raft's warnings and errors to slog, limited: what a peer
// or its absence causes comes again and again.
func newRaftLogger(to *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Warn, Output: io.Discard})
	l.RegisterSink(raftLog{loglimit.New(to)})
	return l
}

type raftLog struct{ to *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (l raftLog) Accept(_ string, level hclog.Level, message string, args ...any) {
	to := slog.LevelDebug
	switch {
	case level >= hclog.Error:
		to = slog.LevelError
	case level == hclog.Warn && !ordinary(message):
		to = slog.LevelWarn
	}
	l.to.Log(context.Background(), to, "raft: "+message, args...)
}

// ordinary is what raft warns of and the nudge brings about all day: it reaches
// a follower that has not got the entry yet.
func ordinary(message string) bool {
	return message == "failed to get previous log" || message == "previous log term mis-match"
}

// newGossipLogger passes memberlist's lines to slog, by their prefix; limited,
// since any packet may cause one.
func newGossipLogger(to *slog.Logger) *stdlog.Logger {
	return stdlog.New(gossipLog{loglimit.New(to)}, "", 0)
}

type gossipLog struct{ to *slog.Logger }

// Write implements io.Writer.
func (l gossipLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	text := strings.TrimSpace(string(line))
	for prefix, meant := range map[string]slog.Level{"[WARN]": slog.LevelWarn, "[ERR]": slog.LevelError, "[ERROR]": slog.LevelError} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			level, text = meant, strings.TrimSpace(rest)
		}
	}
	l.to.Log(context.Background(), level, "gossip: "+loglimit.Kind(text), "line", text)
	return len(line), nil
}
