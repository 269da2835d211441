package migrate

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"lockstep/server/admin"
	"lockstep/server/transfer"
)

// maxTold is how many differences a report has in words; the others it counts.
const maxTold = 1000

// refusal begins the text of a difference that is one.
const refusal = "refused: "

// Report is what was done, and what is not there as it is at the source. Several
// goroutines may add to it.
type Report struct {
	// Progress, if any, is told of records as they are done.
	Progress func(records int)

	mu          sync.Mutex
	counts      Counts
	found       Found
	differences []string
	told        map[string]bool
	untold      int
	pending     map[string]bool // SIDs of objects that were refused
	services    map[string]bool // by SID
}

// Counts says how many records of each sort there were.
type Counts struct {
	Services    int `json:"services"`
	Objects     int `json:"objects"`
	Items       int `json:"items"`
	Permissions int `json:"permissions"`
	Removed     int `json:"removed"`
}

// Found says how many records were found to differ, in which way.
type Found struct {
	Missing int `json:"missing"`
	Other   int `json:"other"` // in another form
	Extra   int `json:"extra"` // collections with other items
	Ahead   int `json:"ahead"` // with a greater revision
	Refused int `json:"refused"`

	OnlyHere int `json:"only_here"` // objects and services that the source does not have
}

// Found returns how many records were found to differ.
func (r *Report) Found() Found {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found
}

func (r *Report) tally(o admin.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case o.Code != 0:
		r.found.Refused++
	case o.Difference == admin.DifferenceMissing:
		r.found.Missing++
	case o.Difference == admin.DifferenceOther:
		r.found.Other++
	case o.Difference == admin.DifferenceExtra:
		r.found.Extra++
	case o.Difference == admin.DifferenceAhead:
		r.found.Ahead++
	}
}

// Counts returns how many records were done.
func (r *Report) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// Differences returns what differs, and how many more differences there were than it
// has words for.
func (r *Report) Differences() (told []string, untold int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.differences...), r.untold
}

// add counts a record.
func (r *Report) add(rec *transfer.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case rec.Remove:
		r.counts.Removed++
	case rec.Kind == transfer.Service: // which each round brings
		if r.services == nil {
			r.services = map[string]bool{}
		}
		r.services[rec.SID] = true
		r.counts.Services = len(r.services)
	case rec.Kind == transfer.Permission:
		r.counts.Permissions++
	case rec.Kind == transfer.ListItem, rec.Kind == transfer.MapItem:
		r.counts.Items++
	case rec.IsCollection() && rec.Items == nil: // is told again when it is whole
	default:
		r.counts.Objects++
	}
	if r.Progress != nil {
		r.Progress(1)
	}
}

// refused adds that a record was.
func (r *Report) refused(rec *transfer.Record, o admin.Outcome) {
	if !r.differs(rec, refusal+"%d: %s", o.Code, o.Message) || isPart(rec) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[string]bool{}
	}
	if len(r.pending) < maxTold {
		r.pending[rec.SID] = true
	}
}

// settled takes back that an object or service was refused, once it is taken: what had
// its name is gone.
func (r *Report) settled(rec *transfer.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.pending[rec.SID] || isPart(rec) || rec.Remove {
		return
	}
	delete(r.pending, rec.SID)
	r.found.Refused--
	prefix := rec.Name() + ": " + refusal
	r.differences = slices.DeleteFunc(r.differences, func(text string) bool {
		is := strings.HasPrefix(text, prefix)
		if is {
			delete(r.told, text)
		}
		return is
	})
}

// onlyHere adds that something is here which the source does not have.
func (r *Report) onlyHere(rec *transfer.Record) {
	if r.differs(rec, "is here and not there") {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.found.OnlyHere++
	}
}

// differs adds a difference, and reports whether it was not known yet.
func (r *Report) differs(rec *transfer.Record, format string, args ...any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := rec.Name() + ": " + fmt.Sprintf(format, args...)
	switch {
	case r.told[text]: // another round found it again
		return false
	case len(r.differences) == maxTold:
		r.untold++
	default:
		if r.told == nil {
			r.told = map[string]bool{}
		}
		r.told[text] = true
		r.differences = append(r.differences, text)
	}
	return true
}
