package validate

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Fate is what a client knows of a write.
type Fate int

// The fates of a write.
const (
	Unknown Fate = iota // no answer: it may be there once
	Done                // acknowledged: it is there once
	Failed              // certainly not written
)

// Writes is the fate of each write, by its name. The zero value holds none; its
// methods may be called from any goroutine.
type Writes struct {
	mu    sync.Mutex
	fates map[string]Fate
	done  int
}

// Note says what has become of a write. What was unknown may become known.
func (w *Writes) Note(name string, fate Fate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fates == nil {
		w.fates = make(map[string]Fate)
	}
	if fate == Done && w.fates[name] != Done {
		w.done++
	}
	w.fates[name] = fate
}

// Acknowledged returns the names of the writes that were acknowledged so far.
func (w *Writes) Acknowledged() map[string]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	names := make(map[string]bool)
	for name, fate := range w.fates {
		if fate == Done {
			names[name] = true
		}
	}
	return names
}

// Doubt makes the fate of all acknowledged writes but these unknown: their cluster
// is lost, and what goes on from it may not have them.
func (w *Writes) Doubt(but map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, fate := range w.fates {
		if fate == Done && !but[name] {
			w.fates[name] = Unknown
		}
	}
}

// Done returns how many writes were acknowledged.
func (w *Writes) Done() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done
}

// Stored returns an error unless what a node has stored, by name and number of
// times, is what clients were told of: each acknowledged write once, each that
// failed not at all, each of unknown fate at most once, and nothing else.
func (w *Writes) Stored(found map[string]int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for name, fate := range w.fates {
		switch times := found[name]; {
		case times > 1:
			fault("%s is there %d times", name, times)
		case fate == Done && times == 0:
			fault("%s was acknowledged and is not there", name)
		case fate == Failed && times > 0:
			fault("%s was refused and is there", name)
		}
	}
	for name := range found {
		if _, known := w.fates[name]; !known && found[name] > 0 {
			fault("%s is there, and nobody wrote it", name)
		}
	}
	return faultsOf("writes", faults)
}

// InOrder returns an error unless those of the stored names that were acknowledged are in
// the order in which each client wrote them. place tells of a name whose it is, and which
// of that client's, from 1 on; ok is false for what may be anywhere.
func (w *Writes) InOrder(stored []string, place func(name string) (client, number int, ok bool)) error {
	acknowledged := w.Acknowledged()
	last := make(map[int]int)
	var faults []string
	for _, name := range stored {
		client, number, ok := place(name)
		if !ok || !acknowledged[name] {
			continue
		}
		if number <= last[client] {
			faults = append(faults, fmt.Sprintf("%s is behind number %d of its client", name, last[client]))
		}
		last[client] = max(last[client], number)
	}
	return faultsOf("writes", faults)
}

// faultsOf makes one error of what was found, the first few of it in words.
func faultsOf(what string, faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	const shown = 10
	slices.Sort(faults)
	text := strings.Join(faults[:min(shown, len(faults))], "; ")
	if more := len(faults) - shown; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return fmt.Errorf("validate: %s: %s", what, text)
}
