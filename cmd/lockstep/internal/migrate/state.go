package migrate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"

	"lockstep/server/transfer"
)

// stateFormat is the number of the form of state files.
const stateFormat = 1

// stateHeader is the first line of a state file: what is copied from where to where.
type stateHeader struct {
	Format  int    `json:"lockstep_import"`
	From    string `json:"from"`
	Account string `json:"account"` // or API key, whose services these are
	To      string `json:"to"`      // id of the cluster
}

// entry is one line of a state file: an object that was copied, as it was then, or a
// service.
type entry struct {
	Service string `json:"service,omitempty"` // none: it is one
	Kind    string `json:"kind,omitempty"`
	SID     string `json:"sid,omitempty"`
	Version string `json:"version,omitempty"` // see versionOf
	Name    string `json:"name,omitempty"`    // of a service, for people

	Gone     bool `json:"gone,omitempty"`     // it was removed
	Finished bool `json:"finished,omitempty"` // of the whole import
}

// State remembers in a file which objects were copied, so that an import that was
// interrupted goes on. Lines are only ever added; the last one about an object counts.
// Losing it costs time and nothing else. Several goroutines may use it.
type State struct {
	mu       sync.Mutex
	file     *os.File // nil: nothing is kept
	objects  map[string]entry
	finished bool
}

// OpenState opens a state file, or makes one. It refuses that of another import. An
// empty name is a state that is not kept.
func OpenState(path, from, account, to string) (*State, error) {
	s := &State{objects: map[string]entry{}}
	if path == "" {
		return s, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the state file: %w", err)
	}
	if err := s.load(f, path, stateHeader{stateFormat, from, account, to}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.file = f
	return s, nil
}

func (s *State) load(f *os.File, path string, want stateHeader) error {
	header, err := transfer.Line(want)
	if err != nil {
		return err
	}
	other := func() error {
		return fmt.Errorf("%s is not the state of an import from %s (%s) into the cluster %s: name another file with --state", path, want.From, want.Account, want.To)
	}
	in := bufio.NewReaderSize(f, 256<<10)
	var whole int64 // bytes of lines that have an end
	for first := true; ; first = false {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if first && !bytes.HasPrefix(header, line) {
				return other()
			}
			break // what is left of a line was being written when the command was killed
		}
		if err != nil {
			return fmt.Errorf("read the state file: %w", err)
		}
		whole += int64(len(line))
		if first {
			var h stateHeader
			if err := json.Unmarshal(line, &h); err != nil || h != want {
				return other()
			}
			continue
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s is damaged: %w; to begin anew, remove it", path, err)
		}
		s.take(e)
	}
	if err := f.Truncate(whole); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	if whole > 0 {
		return nil
	}
	_, err = f.Write(header)
	return err
}

func (s *State) take(e entry) {
	switch {
	case e.Finished:
		s.finished = true
	case e.Gone:
		delete(s.objects, e.SID)
		if e.Kind == transfer.Service {
			maps.DeleteFunc(s.objects, func(_ string, o entry) bool { return o.Service == e.SID })
		}
	default:
		s.objects[e.SID] = e
	}
}

// add remembers an entry.
func (s *State) add(e entry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(e)
	if s.file == nil {
		return nil
	}
	line, err := transfer.Line(e)
	if err == nil {
		_, err = s.file.Write(line)
	}
	if err != nil {
		return fmt.Errorf("write the state file: %w", err)
	}
	return nil
}

func (s *State) copied(o *transfer.Record) error {
	return s.add(entry{Service: o.ServiceSID, Kind: o.Kind, SID: o.SID, Version: versionOf(o)})
}

// has returns what is remembered of an object.
func (s *State) has(sid string) (e entry, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok = s.objects[sid]
	return e, ok
}

// of returns the objects of a kind in a service that were copied and of which seen
// does not know; or the services.
func (s *State) of(service, kind string, seen map[string]bool) (unseen []entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sid, e := range s.objects {
		if e.Service == service && e.Kind == kind && !seen[sid] {
			unseen = append(unseen, e)
		}
	}
	return unseen
}

// Finished reports whether everything was copied once.
func (s *State) Finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished
}

// Close closes the file.
func (s *State) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}

// versionOf changes whenever something of an object does, but for its permissions.
func versionOf(o *transfer.Record) string {
	return o.Revision + " " + o.Updated + " " + o.Expires
}
