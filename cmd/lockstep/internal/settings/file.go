package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// File is a configuration file: a YAML mapping whose keys are settings and whose
// values are texts, numbers or, where a setting is a list, lists of them.
type File struct {
	Path    string
	entries map[string]entry
	mode    os.FileMode
}

type entry struct {
	line   int
	list   bool
	values []string
}

// maxFile is more than a configuration has.
const maxFile = 1 << 20

// ReadFile reads a configuration file. The error says where it cannot be read.
func ReadFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than a configuration can be (%d bytes)", path, maxFile)
	}
	file := &File{Path: path, entries: make(map[string]entry), mode: info.Mode()}
	return file, file.parse(text)
}

func (file *File) parse(text []byte) error {
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil // nothing but comments
	case err != nil:
		return file.fault(0, "%s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return file.fault(0, "there is more after the end of the settings (a line \"---\" or \"...\")")
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil
	}
	if root.Kind != yaml.MappingNode {
		return file.fault(root.Line, "expected lines such as \"http-port: 8080\"")
	}
	var faults []error
	for pair := range slices.Chunk(root.Content, 2) {
		key, value := pair[0], pair[1]
		if before, twice := file.entries[key.Value]; twice {
			faults = append(faults, file.fault(key.Line, "%s is set in line %d already", key.Value, before.line))
			continue
		}
		e, err := read(value)
		e.line = key.Line
		if err != nil {
			faults = append(faults, file.fault(key.Line, "%s: %w", key.Value, err))
		}
		file.entries[key.Value] = e
	}
	return errors.Join(faults...)
}

func (file *File) fault(line int, format string, args ...any) error {
	at := file.Path
	if line > 0 {
		at = fmt.Sprintf("%s:%d", at, line)
	}
	return fmt.Errorf("%s: %w", at, fmt.Errorf(format, args...))
}

var errForm = errors.New("expected one value, or a list of values")

// read returns the value of a key as it would stand on the command line.
func read(n *yaml.Node) (e entry, err error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		e.list, items = true, n.Content
	}
	for _, item := range items {
		switch {
		case item.Kind != yaml.ScalarNode:
			return e, errForm
		case item.Tag == "!!null":
			return e, errors.New("it has no value; leave it out, or give it one")
		}
		e.values = append(e.values, item.Value)
	}
	return e, nil
}

func (file *File) entry(key string) (entry, bool) {
	if file == nil {
		return entry{}, false
	}
	e, ok := file.entries[key]
	return e, ok
}

// unknown returns an error for each key that is no setting.
func (file *File) unknown(s *Settings) (faults []error) {
	if file == nil {
		return nil
	}
	var names []string
	for _, f := range s.All() {
		names = append(names, f.Name)
	}
	keys := slices.SortedFunc(maps.Keys(file.entries), func(a, b string) int {
		return cmp.Compare(file.entries[a].line, file.entries[b].line)
	})
	for _, key := range keys {
		if slices.Contains(names, key) {
			continue
		}
		hint := ""
		if near := Nearest(key, names); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		faults = append(faults, file.fault(file.entries[key].line, "there is no setting %q%s", key, hint))
	}
	return faults
}

// set gives a setting the value that it has in the file.
func (file *File) set(f *pflag.Flag, e entry) error {
	if isSecret(f) && file.mode.Perm()&0o007 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("everybody may read the file (chmod 600 %s)", file.Path)
	}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		if !e.list {
			return f.Value.Set(e.values[0])
		}
		return list.Replace(e.values)
	}
	if e.list {
		return errors.New("it is one value, not a list")
	}
	return f.Value.Set(e.values[0])
}

// Nearest returns the name that is most likely meant, if any is.
func Nearest(word string, names []string) string {
	best, least := "", len(word)/3+2
	for _, name := range names {
		if d := distance(strings.ReplaceAll(word, "_", "-"), name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove or replace to make one word
// the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
