package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/settings"
	"lockstep/server"
)

// reloader reads the settings of a running node again.
type reloader struct {
	flags *pflag.FlagSet    // of the command line
	file  string            // as --config names it
	texts map[string]string // of all settings as the node runs with them
	level *slog.LevelVar
	node  *server.Server
	log   *slog.Logger
}

func newReloader(s *nodeSettings, file string, level *slog.LevelVar, node *server.Server, log *slog.Logger) *reloader {
	r := &reloader{flags: s.flags, file: file, texts: make(map[string]string), level: level, node: node, log: log}
	for _, f := range s.All() {
		r.texts[f.Name] = s.Text(f)
	}
	return r
}

// hangups has a reloader act on each SIGHUP until stop is called. At a terminal,
// whose end it is that sends SIGHUP, the context that is returned ends in its place.
func hangups(ctx context.Context, r *reloader) (_ context.Context, stop func()) {
	switch {
	case signal.Ignored(syscall.SIGHUP): // as nohup wants it
		return ctx, func() {}
	case isTerminal(os.Stderr):
		return signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	told, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(told, syscall.SIGHUP)
	go func() {
		defer close(done)
		for range told {
			if err := r.reload(); err != nil {
				r.log.Error("the configuration was not loaded again; the node goes on with what it has", "error", oneLine(err))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(told)
		close(told)
		<-done
	}
}

// reload loads the settings again and changes what can change.
func (r *reloader) reload() error {
	next := newNodeSettings()
	if err := settings.Repeat(r.flags, next.flags); err != nil {
		return err
	}
	if _, err := next.load(r.file); err != nil {
		return err
	}
	config := next.config(next.level)
	if _, err := server.New(config); err != nil {
		return err
	}
	changed, restart := []string{}, []string{}
	for _, f := range next.All() {
		switch text := next.Text(f); {
		case text == r.texts[f.Name]:
		case f.Annotations[settings.Live] == nil:
			restart = append(restart, f.Name)
		default:
			r.texts[f.Name] = text
			changed = append(changed, f.Name)
		}
	}
	r.level.Set(next.level)
	r.node.Change(server.Live{RateLimits: config.RateLimits, WebhookAllow: config.WebhookAllow, TLS: config.TLS})
	r.log.Info("the configuration was loaded again", "changed", strings.Join(changed, ","))
	for _, name := range restart {
		r.log.Warn("a setting was changed in the configuration and takes a restart", "setting", name)
	}
	return nil
}
