// Package settings gives the settings of a command their values and knows where
// each one came from: a file, the environment or the command line, of which the
// later comes first.
//
// A setting is a flag. Its name is its key in the file, and an annotation names its
// variable. Secrets and what goes with them are settings, too, but no flags of the
// command: all users of a machine see what it is called with.
//
// The package knows no setting by name, and starts no goroutines.
package settings

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Annotations of a flag.
const (
	// Environment names the variable that sets it.
	Environment = "environment"
	// Live marks what can be changed while the node runs.
	Live = "live"
	// Part is the heading in the reference under which it stands.
	Part = "part"
	// Secret marks what is nobody's business.
	Secret = "secret"
	// Full says what happens beyond a bound.
	Full = "full"
)

// Settings are all settings of a command.
type Settings struct {
	flags, unlisted *pflag.FlagSet
	sources         map[string]string
}

// New returns the settings that a command's flags are, and those that it has besides.
func New(flags, unlisted *pflag.FlagSet) *Settings {
	return &Settings{flags: flags, unlisted: unlisted, sources: make(map[string]string)}
}

// All returns every setting in the order in which they were defined, but those that
// say where to look for settings.
func (s *Settings) All() []*pflag.Flag {
	var all []*pflag.Flag
	for _, set := range []*pflag.FlagSet{s.unlisted, s.flags} {
		sorted := set.SortFlags
		set.SortFlags = false
		set.VisitAll(func(f *pflag.Flag) {
			if f.Annotations[Part] != nil {
				all = append(all, f)
			}
		})
		set.SortFlags = sorted
	}
	return all
}

func isSecret(f *pflag.Flag) bool { return f.Annotations[Secret] != nil }

// Load sets what the command line leaves out: from the environment, or else from the
// file, which may be nil. The error names all that is wrong, each with its place.
func (s *Settings) Load(file *File, environment func(name string) (string, bool)) error {
	faults := file.unknown(s)
	for _, f := range s.All() {
		variable := f.Annotations[Environment][0]
		value, set := environment(variable)
		entry, inFile := file.entry(f.Name)
		switch {
		case f.Changed:
			s.sources[f.Name] = "the command line"
		case set && value != "":
			s.sources[f.Name] = variable
			if err := f.Value.Set(value); err != nil {
				faults = append(faults, fmt.Errorf("%s=%s: %w", variable, shown(f, value), why(err)))
			}
		case inFile:
			s.sources[f.Name] = fmt.Sprintf("%s:%d", file.Path, entry.line)
			if err := file.set(f, entry); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", s.sources[f.Name], f.Name, why(err)))
			}
		}
	}
	return errors.Join(faults...)
}

// Source says where the value of a setting came from: "" for its default.
func (s *Settings) Source(name string) string { return s.sources[name] }

// Text returns the value of a setting as it is written on the command line.
func (s *Settings) Text(f *pflag.Flag) string {
	if s.sources[f.Name] == "" {
		return defaultOf(f)
	}
	return strings.Join(values(f), ",")
}

// Repeat gives flags what others were given on the command line.
func Repeat(from, to *pflag.FlagSet) error {
	var first error
	from.VisitAll(func(f *pflag.Flag) {
		target := to.Lookup(f.Name)
		if !f.Changed || target == nil || first != nil {
			return
		}
		target.Changed = true
		if list, ok := target.Value.(pflag.SliceValue); ok {
			first = list.Replace(f.Value.(pflag.SliceValue).GetSlice())
			return
		}
		first = target.Value.Set(f.Value.String())
	})
	return first
}

// hidden stands for a secret.
const hidden = "********"

func shown(f *pflag.Flag, value string) string {
	if isSecret(f) {
		return hidden
	}
	return value
}

func values(f *pflag.Flag) []string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return list.GetSlice()
	}
	return []string{f.Value.String()}
}

// defaultOf is the value of a setting that nobody set: "" for none.
func defaultOf(f *pflag.Flag) string {
	if f.DefValue == "[]" { // of a list
		return ""
	}
	return f.DefValue
}

// why says in words what the standard library says of numbers.
func why(err error) error {
	if number, ok := errors.AsType[*strconv.NumError](err); ok {
		return fmt.Errorf("%q is not a value for it: %w", number.Num, number.Err)
	}
	return err
}
