package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Made is a backup that a node has made.
type Made struct {
	Name  string    `json:"name"` // of its file
	At    time.Time `json:"at"`
	Bytes int64     `json:"bytes"`
}

// List returns this node's backups, the newest first. A directory that is not there
// yet has none.
func (s *Schedule) List() ([]Made, error) {
	names, err := s.files()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var made []Made
	for _, name := range slices.Backward(names) {
		info, err := os.Stat(filepath.Join(s.Dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed just now
		case err != nil:
			return nil, fmt.Errorf("look at backup: %w", err)
		default:
			made = append(made, Made{Name: name, At: s.at(name), Bytes: info.Size()})
		}
	}
	return made, nil
}
