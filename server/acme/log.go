package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLog returns a logger for certmagic that writes to the node's. What certmagic
// tells of its own doings in detail is of interest when one looks for a fault only.
func newLog(to *slog.Logger) *zap.Logger { return zap.New(core{to: to}) }

// core is zapcore.Core over slog.
type core struct {
	to     *slog.Logger
	fields []zapcore.Field
}

// level returns the node's level for one of certmagic's.
func level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l >= zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.LevelEnabler.
func (c core) Enabled(l zapcore.Level) bool { return c.to.Enabled(context.Background(), level(l)) }

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(slices.Clone(c.fields), fields...)
	return c
}

// Check implements zapcore.Core.
func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	all := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clone(c.fields), fields...) {
		f.AddTo(all)
	}
	args := make([]any, 0, 2*len(all.Fields))
	for _, key := range slices.Sorted(maps.Keys(all.Fields)) {
		args = append(args, key, all.Fields[key])
	}
	c.to.Log(context.Background(), level(e.Level), "certificate: "+e.Message, args...)
	return nil
}

// Sync implements zapcore.Core.
func (core) Sync() error { return nil }
