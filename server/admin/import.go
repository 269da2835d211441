package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"lockstep/objects"
	"lockstep/server/jsonbody"
	"lockstep/server/transfer"
)

// Outcome is what became of a record of an import: a refusal, or how what is there
// differs from it. None of it: it is there as it was told.
type Outcome struct {
	Code       int    `json:"code,omitempty"` // of the API's dictionary
	Message    string `json:"message,omitempty"`
	Difference string `json:"difference,omitempty"`
}

// The differences. An import that is not only a comparison leaves only the last two.
const (
	DifferenceMissing = "missing" // it is not there
	DifferenceOther   = "other"   // it is there in another form
	DifferenceExtra   = "extra"   // there are more items, or fewer, than were told
	DifferenceAhead   = "ahead"   // its revision is greater already
)

// Import is the answer to an import: an outcome for each of its records.
type Import struct {
	Outcomes []Outcome `json:"outcomes"`
}

// MaxImport is how many bytes the records of one request may have. They have to go
// into one command.
const MaxImport = 384 << 10

func (h *handler) importRecords(w http.ResponseWriter, r *http.Request) {
	r, ok := h.enterWith(w, r, Account, MaxImport)
	if !ok {
		return
	}
	compare := r.URL.Query().Get("compare") == "true"
	records, err := readRecords(r)
	var done Import
	if err == nil {
		done.Outcomes, err = h.node.Import(r.Context(), records, compare)
	}
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	for i := range records {
		if rec := &records[i]; rec.Kind == transfer.Service && !compare && done.Outcomes[i].Code == 0 {
			_ = h.record(r, nil, "service imported", "service", rec.SID)
		}
	}
	jsonbody.Write(w, http.StatusOK, done)
}

// readRecords reads the lines of a request.
func readRecords(r *http.Request) (records []transfer.Record, err error) {
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, MaxImport)
	for lines.Scan() {
		var rec transfer.Record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			return nil, objects.ErrParameter.With("Line %d is no record: %v", len(records)+1, err)
		}
		records = append(records, rec)
	}
	if err := lines.Err(); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok || errors.Is(err, bufio.ErrTooLong) {
			return nil, objects.ErrTooLarge.With("An import has at most %d bytes", MaxImport)
		}
		return nil, objects.ErrParameter.With("The body was not read: %v", err)
	}
	return records, nil
}

// Import has records made as they are, or compared with what is there. They are lines
// of JSON.
func (c *Client) Import(ctx context.Context, lines []byte, compare bool) ([]Outcome, error) {
	path := "/cluster/import"
	if compare {
		path += "?compare=true"
	}
	var answer Import
	err := c.exchange(ctx, http.MethodPost, path, lines, &answer)
	return answer.Outcomes, err
}
