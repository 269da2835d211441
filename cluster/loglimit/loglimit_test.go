package loglimit

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// sink returns a logger and the lines that reach it, without their times.
func sink() (*slog.Logger, func() []string) {
	out := new(bytes.Buffer)
	h := slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), func() []string {
		text := strings.TrimSpace(out.String())
		out.Reset()
		if text == "" {
			return nil
		}
		return strings.Split(text, "\n")
	}
}

func TestEachKindIsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, written := sink()
		l := New(to)
		for i := range 10_000 {
			l.Warn("refused", "remote", i)
			l.With("member", "n2").Warn("refused", "remote", i)
			l.Error("broken", "remote", i)
		}
		require.Equal(t, []string{"level=WARN msg=refused remote=0", "level=ERROR msg=broken remote=0"}, written())

		time.Sleep(time.Second)
		l.Warn("refused", "remote", "x")
		l.Warn("refused", "remote", "y")
		require.Equal(t, []string{"level=WARN msg=refused remote=x left_out=19999"}, written())

		time.Sleep(time.Minute)
		l.Warn("refused", "remote", "z")
		time.Sleep(time.Minute)
		l.Warn("refused", "remote", "z")
		require.Equal(t, []string{"level=WARN msg=refused remote=z left_out=1", "level=WARN msg=refused remote=z"}, written())
	})
}

func TestKindsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, written := sink()
		l := New(to)
		for i := range 100 * maxKinds {
			l.Warn(fmt.Sprintf("kind %d", i))
		}
		require.Len(t, written(), maxKinds+1)
		require.LessOrEqual(t, len(l.Handler().(*handler).kinds.seen), maxKinds+1)
	})
}

func TestLibraryLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to, written := sink()
		l := Lines(to, slog.LevelWarn)
		for port := range 5_000 {
			l.Printf("http: TLS handshake error from 10.0.0.1:%d: EOF", port)
			l.Printf("http: panic serving 10.0.0.1:%d: boom\ngoroutine 1", port)
			l.Printf("something else")
		}
		require.Equal(t, []string{
			`level=WARN msg="http: TLS handshake error from" line="http: TLS handshake error from 10.0.0.1:0: EOF"`,
			`level=WARN msg="http: panic serving" line="http: panic serving 10.0.0.1:0: boom\ngoroutine 1"`,
			`level=WARN msg="something else" line="something else"`,
		}, written())
	})
}

func TestKind(t *testing.T) {
	for line, want := range map[string]string{
		`memberlist: Decrypt packet failed: No installed keys from=10.0.0.1:7`: "memberlist: Decrypt packet failed",
		`memberlist: discarding packet with unacceptable label "abc": from=x`:  "memberlist: discarding packet with unacceptable label",
		`no such thing: x`: "no such thing",
		`plain`:            "plain",
		"":                 "",
		"7 up":             "",
	} {
		require.Equal(t, want, Kind(line), line)
	}
}
