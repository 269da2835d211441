package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/server/transfer"
)

// Filter says which services are meant, by SID, unique name or friendly name; none:
// all.
type Filter []string

func (f Filter) has(s *transfer.Record) bool {
	return len(f) == 0 || slices.ContainsFunc(f, func(name string) bool {
		return name == s.SID || s.UniqueName != "" && name == s.UniqueName || s.FriendlyName != "" && name == s.FriendlyName
	})
}

// Check reads a file to its end, and returns what is wrong with it.
func Check(r io.Reader) error {
	in, err := transfer.NewReader(r)
	for err == nil {
		_, err = in.Read()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// FromFile brings what is in a file. Items that it does not have stay.
func FromFile(ctx context.Context, r io.Reader, to *Target, only Filter) error {
	in, err := transfer.NewReader(r)
	if err != nil {
		return err
	}
	f := &filed{batch: batch{target: to}, meant: map[string]bool{}}
	for {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = f.bring(ctx, rec, only)
		}
		if err != nil {
			return err
		}
	}
	return f.end(ctx)
}

// filed brings the records of a file in their order.
type filed struct {
	batch
	meant      map[string]bool  // the services, by SID
	collection *transfer.Record // whose items come now; nil: none
	items      uint64
}

func (f *filed) bring(ctx context.Context, rec *transfer.Record, only Filter) error {
	switch rec.Kind {
	case transfer.Service:
		if err := f.end(ctx); err != nil {
			return err
		}
		if f.meant[rec.SID] = only.has(rec); !f.meant[rec.SID] {
			return nil
		}
		return f.target.putService(ctx, rec)
	case transfer.ListItem, transfer.MapItem:
		f.items++
	case transfer.Permission:
	default:
		if err := f.whole(ctx); err != nil {
			return err
		}
		if rec.IsCollection() && f.meant[rec.ServiceSID] {
			f.collection = rec
		}
	}
	meant, known := f.meant[rec.ServiceSID]
	switch {
	case !known:
		return fmt.Errorf("%s: the file has no service %s before it", rec.Name(), rec.ServiceSID)
	case !meant:
		return nil
	}
	return f.add(ctx, rec)
}

// whole says of the collection that its items have come.
func (f *filed) whole(ctx context.Context) error {
	rec, items := f.collection, f.items
	f.collection, f.items = nil, 0
	if rec == nil {
		return nil
	}
	last := *rec
	last.Items = &items
	return f.add(ctx, &last)
}

func (f *filed) end(ctx context.Context) error {
	if err := f.whole(ctx); err != nil {
		return err
	}
	return f.flush(ctx)
}

// ToFile writes everything at the source, in the order in which it lists it.
func ToFile(ctx context.Context, w io.Writer, from *Source, only Filter, report *Report) error {
	out, err := transfer.NewWriter(w, from.Name, time.Now())
	if err != nil {
		return err
	}
	write := func(rec *transfer.Record) error {
		report.add(rec)
		if rec.IsCollection() {
			whole := *rec
			whole.Items = new(uint64)
			report.add(&whole)
		}
		return out.Write(rec)
	}
	for s, err := range from.services(ctx, only) {
		if err != nil {
			return err
		}
		if err := write(s); err != nil {
			return err
		}
		for _, kind := range objectKinds {
			for o, err := range from.objects(ctx, s.SID, kind) {
				if err != nil {
					return err
				}
				if err := write(o); err != nil {
					return err
				}
				if err := from.parts(ctx, o, write); err != nil && !client.IsNotFound(err) { // removed meanwhile
					return err
				}
			}
		}
	}
	return out.Close()
}
