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

// newRaftLogger passes raft's warnings and errors to slog. They are limited,
// because a peer, or its absence, causes the same ones again and again.
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
	case level == hclog.Warn && !expectedWarning(message):
		to = slog.LevelWarn
	}
	l.to.Log(context.Background(), to, "raft: "+message, args...)
}

// expectedWarning reports whether a raft warning is a normal effect of nudges,
// which may reach followers that do not have the entry yet.
func expectedWarning(message string) bool {
	return message == "failed to get previous log" || message == "previous log term mis-match"
}

// newGossipLogger passes memberlist's lines to slog, with the level of their
// prefix. They are limited, because any packet may cause one.
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
