package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
)

// Plan says where a node keeps backups that it makes itself, how often it makes
// one, and how many it keeps. Without a directory it makes none.
type Plan struct {
	Dir   string
	Every time.Duration
	Keep  int
}

// Validate says what is wrong with a plan, in terms of the flags of `lockstep serve`.
func (p Plan) Validate() error {
	switch {
	case p.Dir == "":
		return nil
	case p.Every < time.Second:
		return errors.New("--backup-every must be at least a second")
	case p.Keep < 1:
		return errors.New("--backup-keep must be at least 1")
	}
	return nil
}

// Config sets up a Schedule. Every field is required.
type Config struct {
	Plan
	ClusterID, Node, Release string

	// Capture returns the state with all that was acknowledged before the call.
	Capture func(ctx context.Context) (*fsm.Capture, error)

	// Room returns an error when the disk has too little room to go on.
	Room func() error

	Clock   func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Schedule makes backups at intervals, in a directory that may be another node's,
// too: the names of the files say whose they are, and it sees its own only.
type Schedule struct {
	Config
	prefix   string
	success  prometheus.Gauge
	failures prometheus.Counter
	size     prometheus.Gauge
}

// NewSchedule makes a schedule; Run runs it.
func NewSchedule(c Config) *Schedule {
	s := &Schedule{
		Config: c, prefix: fmt.Sprintf("%s_%s_", c.ClusterID, c.Node),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lockstep_backup_last_success_timestamp_seconds", Help: "When this node's newest backup was made, as Unix time; 0 if there is none.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "lockstep_backup_failures_total", Help: "Backups that came due on this node and were not made.",
		}),
		size: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "lockstep_backup_size_bytes", Help: "Size of the newest backup that this process made.",
		}),
	}
	c.Metrics.MustRegister(s.success, s.failures, s.size)
	return s
}

// retryPause is the longest pause after a backup that failed.
const retryPause = 5 * time.Minute

// hangs is how long the directory is waited for when the context has ended.
const hangs = 2 * time.Second

// Run makes backups until the context ends. The first one is due when the newest
// in the directory is old enough, so starting a node again makes none. A directory
// that hangs then, on another disk or machine than the node's own perhaps, is not
// waited for: what is under way there ends when the directory goes on, or with the
// process.
func (s *Schedule) Run(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx)
	}()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(hangs):
		s.Logger.Warn("the backup directory hangs; this node ends without what is under way there", "directory", s.Dir)
	}
}

func (s *Schedule) run(ctx context.Context) {
	s.sweep()
	pause := s.untilDue()
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = s.Every
		if err := s.make(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.failures.Inc()
			pause = min(s.Every, retryPause)
			s.Logger.Error("no backup was made", "directory", s.Dir, "next try in", pause, "error", err)
		}
	}
}

// untilDue returns how long the newest backup still counts as new.
func (s *Schedule) untilDue() time.Duration {
	files, err := s.files()
	if err != nil || len(files) == 0 {
		return 0
	}
	newest := s.at(files[len(files)-1])
	s.success.Set(float64(newest.Unix()))
	return min(s.Every, max(0, newest.Add(s.Every).Sub(s.Clock())))
}

// make makes a backup, reads it again, and removes the oldest ones beyond those
// that are kept. None is removed unless the new one is good.
func (s *Schedule) make(ctx context.Context) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("make backup directory: %w", err)
	}
	at := s.Clock().UTC()
	path := filepath.Join(s.Dir, s.name(at))
	err := Create(path, true, func(w io.Writer) error { return s.write(ctx, w, at) })
	if err != nil {
		return err
	}
	made, err := checkFile(path)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	s.success.Set(float64(at.Unix()))
	s.size.Set(float64(made.Size))
	s.Logger.Info("backup made", "file", path, "bytes", made.Size, "index", made.Index)
	return s.retain(s.name(at))
}

func (s *Schedule) write(ctx context.Context, w io.Writer, at time.Time) error {
	state, err := s.Capture(ctx)
	if err != nil {
		return err
	}
	return Write(Heeding(ctx, w, s.Room), Origin{Node: s.Node, Release: s.Release, At: at}, state)
}

func checkFile(path string) (Summary, error) {
	f, err := os.Open(path)
	if err != nil {
		return Summary{}, fmt.Errorf("read backup again: %w", err)
	}
	defer f.Close()
	return Check(f)
}

// suffix ends the names of backups.
const suffix = ".backup"

// timeForm in names sorts as the times do.
const timeForm = "20060102T150405.000Z"

func (s *Schedule) name(at time.Time) string { return s.prefix + at.Format(timeForm) + suffix }

// at returns the time in a name; zero if it is not that of one of this node's
// backups.
func (s *Schedule) at(name string) time.Time {
	text, own := strings.CutPrefix(name, s.prefix)
	text, whole := strings.CutSuffix(text, suffix)
	at, err := time.Parse(timeForm, text)
	if !own || !whole || err != nil {
		return time.Time{}
	}
	return at
}

// files returns the names of this node's backups, the newest last.
func (s *Schedule) files() ([]string, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("look for backups: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && !s.at(e.Name()).IsZero() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// retain removes old backups, and not the one that was made just now, whatever the
// clock was when the others were.
func (s *Schedule) retain(made string) error {
	names, err := s.files()
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == made })
	for _, name := range names[:max(0, len(names)-(s.Keep-1))] {
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old backup: %w", err)
		}
	}
	return nil
}

// sweep removes what a crash of this node has left of files that were being
// written.
func (s *Schedule) sweep() {
	entries, _ := os.ReadDir(s.Dir) // a directory that cannot be read shows when a backup is made
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), unfinished(s.prefix)) {
			continue
		}
		if err := os.Remove(filepath.Join(s.Dir, e.Name())); err != nil {
			s.Logger.Warn("an unfinished backup was not removed", "file", e.Name(), "error", err)
		}
	}
}

// roomInterval is how many bytes are written before the room on the disk is looked
// at again.
const roomInterval = 8 << 20

// Heeding returns a writer that gives up when the context ends or there is too
// little room.
func Heeding(ctx context.Context, w io.Writer, room func() error) io.Writer {
	return &heeding{ctx: ctx, w: w, room: room, since: roomInterval}
}

type heeding struct {
	ctx   context.Context
	w     io.Writer
	room  func() error
	since int // bytes since the room was looked at
}

// Write implements io.Writer.
func (h *heeding) Write(p []byte) (int, error) {
	if err := h.ctx.Err(); err != nil {
		return 0, err
	}
	if h.since += len(p); h.since >= roomInterval {
		if err := h.room(); err != nil {
			return 0, err
		}
		h.since = 0
	}
	return h.w.Write(p)
}
