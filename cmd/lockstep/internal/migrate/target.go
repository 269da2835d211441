package migrate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/transfer"
)

// Target is the cluster that records go to. Several goroutines may use it.
type Target struct {
	Operator *admin.Client
	REST     func() *client.Client // one for each goroutine
	Report   *Report

	// Compare leaves everything as it is: the report says how it differs.
	Compare bool

	// Patience is how long a request is repeated while no node does it. Default: 5
	// minutes.
	Patience time.Duration

	mu       sync.Mutex
	services map[string]string // SIDs of the source's services that have another here
}

const (
	defaultPatience = 5 * time.Minute

	// What one request has at most. A line is below 64 KiB.
	maxRecords = 100
	maxBytes   = admin.MaxImport - 64<<10
)

// codeNameExists is that of a refusal because a name or SID is taken.
var codeNameExists = objects.ErrNameExists.Code

// send has records made or compared, whatever happens on the way: to do it twice is
// like doing it once.
func (t *Target) send(ctx context.Context, lines []byte) (outcomes []admin.Outcome, err error) {
	patience := t.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	err = persist(ctx, patience, func() (wait time.Duration, err error) {
		outcomes, err = t.Operator.Import(ctx, lines, t.Compare)
		refused, answered := errors.AsType[*objects.Error](err)
		switch {
		case err == nil:
			return 0, nil
		case !answered && !errors.Is(err, admin.ErrUnreachable):
			return 0, err
		case answered && refused.Status < http.StatusInternalServerError && refused.Status != http.StatusTooManyRequests:
			return 0, err
		}
		return soon, err
	})
	return outcomes, err
}

// putService brings a service, and finds out which SID it has here.
func (t *Target) putService(ctx context.Context, rec *transfer.Record) error {
	b := &batch{target: t}
	outcome, err := b.last(ctx, rec)
	if err != nil || outcome.Code == 0 && (outcome.Difference != admin.DifferenceMissing || rec.UniqueName == "") {
		if err == nil {
			t.tell(rec, outcome)
		}
		return err
	}
	if rec.UniqueName == "" || outcome.Code != 0 && outcome.Code != codeNameExists {
		t.tell(rec, outcome)
		return fmt.Errorf("service %s cannot be made here: %d: %s", rec.SID, outcome.Code, outcome.Message)
	}
	// The default service is there, in use, with a SID of its own; or, while comparing,
	// it would take the SID over if it is not in use.
	var here struct {
		SID string `json:"sid"`
	}
	if err := t.REST().Get(ctx, client.Path("Services", rec.UniqueName), &here); err != nil {
		return err
	}
	if outcome.Code != 0 {
		t.Report.differs(rec, "the service %s has objects of its own here: it stays %s, which is what has to be said in the place of %s", rec.UniqueName, here.SID, rec.SID)
	}
	t.mu.Lock()
	if t.services == nil {
		t.services = map[string]string{}
	}
	t.services[rec.SID] = here.SID
	t.mu.Unlock()
	mapped := *rec
	mapped.SID = here.SID
	if outcome, err = b.last(ctx, &mapped); err == nil {
		t.tell(&mapped, outcome)
	}
	return err
}

// here returns the record as it is to be called here.
func (t *Target) here(rec *transfer.Record) *transfer.Record {
	t.mu.Lock()
	defer t.mu.Unlock()
	sid, other := t.services[rec.ServiceSID]
	if !other {
		return rec
	}
	mapped := *rec
	mapped.ServiceSID = sid
	return &mapped
}

// withoutObject are the codes by which a part is refused whose object is not here.
var withoutObject = map[int]bool{
	objects.ErrDocumentGone.Code: true, objects.ErrListGone.Code: true, objects.ErrMapGone.Code: true,
}

func isPart(rec *transfer.Record) bool {
	return rec.Kind == transfer.ListItem || rec.Kind == transfer.MapItem || rec.Kind == transfer.Permission
}

// tell reports what became of a record.
func (t *Target) tell(rec *transfer.Record, o admin.Outcome) {
	t.Report.add(rec)
	if withoutObject[o.Code] && isPart(rec) {
		return // its object was refused, as was told
	}
	t.Report.tally(o)
	if o.Code == 0 {
		t.Report.settled(rec)
	}
	switch {
	case o.Code != 0:
		t.Report.refused(rec, o)
	case o.Difference == admin.DifferenceMissing:
		t.Report.differs(rec, "is not here")
	case o.Difference == admin.DifferenceOther:
		t.Report.differs(rec, "is here in another form")
	case o.Difference == admin.DifferenceExtra:
		t.Report.differs(rec, "has other items here than there: %d are there; its revision and dates are its own", *rec.Items)
	case o.Difference == admin.DifferenceAhead:
		t.Report.differs(rec, "its revision is greater here than there")
	case !rec.KeepsRevision():
		t.Report.differs(rec, "its revision %q is no hexadecimal number: it has another here", rec.Revision)
	}
}

// batch collects records for one request. One goroutine uses it.
type batch struct {
	target  *Target
	records []*transfer.Record
	lines   []byte
	refused bool // one of them was
}

// add adds a record, and sends them when they are enough.
func (b *batch) add(ctx context.Context, rec *transfer.Record) error {
	if b.target.Compare && rec.IsCollection() && rec.Items == nil {
		return nil // is compared when its items have come
	}
	rec = b.target.here(rec)
	line, err := transfer.Line(rec)
	if err != nil {
		return err
	}
	if len(line) > maxBytes {
		b.target.tell(rec, admin.Outcome{Code: objects.ErrTooLarge.Code, Message: objects.ErrTooLarge.Message})
		return nil
	}
	if len(b.records) == maxRecords || len(b.lines)+len(line) > maxBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.records, b.lines = append(b.records, rec), append(b.lines, line...)
	return nil
}

// flush sends what was added.
func (b *batch) flush(ctx context.Context) error {
	outcomes, err := b.send(ctx)
	for i, o := range outcomes {
		b.target.tell(b.records[i], o)
		b.refused = b.refused || o.Code != 0
	}
	b.records, b.lines = b.records[:0], b.lines[:0]
	return err
}

func (b *batch) send(ctx context.Context) ([]admin.Outcome, error) {
	if len(b.records) == 0 {
		return nil, nil
	}
	outcomes, err := b.target.send(ctx, b.lines)
	if err != nil {
		return nil, err
	}
	if len(outcomes) != len(b.records) {
		return nil, fmt.Errorf("the node answered with %d outcomes of %d records", len(outcomes), len(b.records))
	}
	return outcomes, nil
}

// last sends what was added, and then one more record, whose outcome it returns
// without reporting it.
func (b *batch) last(ctx context.Context, rec *transfer.Record) (o admin.Outcome, err error) {
	if err := b.flush(ctx); err != nil {
		return o, err
	}
	if err := b.add(ctx, rec); err != nil || len(b.records) == 0 {
		return o, err
	}
	outcomes, err := b.send(ctx)
	b.records, b.lines = b.records[:0], b.lines[:0]
	if err != nil {
		return o, err
	}
	return outcomes[0], nil
}
