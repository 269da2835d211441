package main

import (
	"fmt"
	"log/slog"
	"os"
)

// logFormat is the form of the lines of the log.
type logFormat string

const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// MarshalText implements encoding.TextMarshaler.
func (f logFormat) MarshalText() ([]byte, error) { return []byte(f), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *logFormat) UnmarshalText(text []byte) error {
	switch given := logFormat(text); given {
	case logText, logJSON:
		*f = given
		return nil
	}
	return fmt.Errorf("%q is neither text nor json", text)
}

// newLogger writes one line an event to standard error.
func newLogger(level slog.Leveler, format logFormat) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == logJSON {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}
