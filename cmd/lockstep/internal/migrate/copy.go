package migrate

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/http"
	"sync"

	"golang.org/x/sync/errgroup"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/server/admin"
	"lockstep/server/transfer"
)

// Copier copies what a source has into a cluster.
type Copier struct {
	From  *Source
	To    *Target
	State *State
	Only  Filter

	// Requests is how many may be under way at the source. Default: 4.
	Requests int

	// Delete removes what is here alone: services that were copied and are gone at the
	// source, and objects of the services that are copied which it does not have. Without
	// it the report says so. Objects that were copied are removed in either case.
	Delete bool

	// Service, if it is set, changes what is copied of a service.
	Service func(*transfer.Record)

	mu      sync.Mutex
	copied  map[string]bool   // the services, by SID
	refused map[string]string // versions of objects that were not taken, by SID
}

const (
	defaultRequests = 4

	// rereads is how often an object is read that changes while it is read.
	rereads = 5

	// rounds is how often an import looks for what has changed meanwhile.
	rounds = 5
)

// Import copies everything, and again what has changed meanwhile, until nothing has.
func (c *Copier) Import(ctx context.Context) error {
	for range rounds {
		changed, err := c.round(ctx, false)
		if err != nil {
			return err
		}
		if changed == 0 {
			return c.State.add(entry{Finished: true})
		}
	}
	return c.State.add(entry{Finished: true})
}

// Verify reads everything at the source and compares it, if the target compares, or
// makes it the same.
func (c *Copier) Verify(ctx context.Context) error {
	_, err := c.round(ctx, true)
	return err
}

// round goes through all objects once, copies those of which another version was
// copied last, and removes those that are gone. It returns how many those were. With
// all set it does every object.
func (c *Copier) round(ctx context.Context, all bool) (changed int, err error) {
	requests := c.Requests
	if requests == 0 {
		requests = defaultRequests
	}
	seen := map[string]bool{}
	for s, err := range c.From.services(ctx, c.Only) {
		if err != nil {
			return changed, err
		}
		if c.Service != nil {
			c.Service(s)
		}
		if err := c.service(ctx, s); err != nil {
			return changed, err
		}
		seen[s.SID] = true
		for _, kind := range objectKinds {
			n, err := c.objects(ctx, s.SID, kind, requests, all)
			changed += n
			if client.IsNotFound(err) { // it is gone since it was listed
				delete(seen, s.SID)
				break
			}
			if err != nil {
				return changed, err
			}
		}
	}
	for _, e := range c.State.of("", transfer.Service, seen) {
		removed, err := c.unlisted(ctx, e)
		if err != nil {
			return changed, err
		}
		if removed {
			changed++
		}
	}
	return changed, nil
}

// service brings a service, without what is in it.
func (c *Copier) service(ctx context.Context, s *transfer.Record) error {
	if err := c.To.putService(ctx, s); err != nil {
		return err
	}
	c.knows(s.SID)
	if _, known := c.State.has(s.SID); known || c.To.Compare {
		return nil
	}
	return c.State.add(entry{Kind: s.Kind, SID: s.SID, Name: s.FriendlyName})
}

// unlisted does a service that was copied and is not listed any more: it is gone, or
// has another name than those that are meant.
func (c *Copier) unlisted(ctx context.Context, e entry) (removed bool, err error) {
	s := &transfer.Record{Kind: e.Kind, SID: e.SID, FriendlyName: e.Name}
	if !c.Only.has(s) {
		return false, nil
	}
	if there, err := c.From.fork().hasService(ctx, e.SID); there || err != nil {
		return false, err
	}
	if !c.Delete || c.To.Compare {
		c.To.Report.onlyHere(s)
		return false, nil
	}
	err = c.To.REST().Do(ctx, client.Request{Method: http.MethodDelete, Path: client.Path("Services", e.SID)}, nil)
	if err != nil && !client.IsNotFound(err) {
		return false, fmt.Errorf("%s: %w", s.Name(), err)
	}
	s.Remove = true
	c.To.Report.add(s)
	return true, c.State.add(entry{Kind: e.Kind, SID: e.SID, Gone: true})
}

func (c *Copier) knows(service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copied == nil {
		c.copied = map[string]bool{}
	}
	c.copied[service] = true
}

// copies reports whether a service is among those that are copied.
func (c *Copier) copies(service string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.copied[service]
}

// objects does a service's objects of one kind, several at a time.
func (c *Copier) objects(ctx context.Context, service, kind string, requests int, all bool) (changed int, err error) {
	work, working := errgroup.WithContext(ctx)
	work.SetLimit(requests)
	sources := make(chan *Source, requests) // one for each goroutine that runs
	for range requests {
		sources <- c.From.fork()
	}
	do := func(o *transfer.Record) {
		changed++
		work.Go(func() error {
			from := <-sources
			defer func() { sources <- from }()
			return c.object(working, from, o)
		})
	}
	seen := map[string]bool{}
	for o, err := range c.From.objects(working, service, kind) {
		if err != nil {
			work.Go(func() error { return err })
			break
		}
		seen[o.SID] = true
		if all || c.due(o) {
			do(o)
		}
	}
	if err := work.Wait(); err != nil {
		return changed, err
	}
	if !c.To.Compare {
		for _, e := range c.State.of(service, kind, seen) {
			changed++
			if err := c.object(ctx, c.From, &transfer.Record{Kind: e.Kind, SID: e.SID, ServiceSID: e.Service}); err != nil {
				return changed, err
			}
			c.forgive()
		}
	}
	if all {
		err = c.surplus(ctx, service, kind, seen)
	}
	return changed, err
}

// forgive has what was refused tried again, once something is removed whose name it
// may have.
func (c *Copier) forgive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.refused)
}

// surplus does the objects of a kind in a service that are here and were not seen at
// the source. Where the source's service is another one here, which has objects of its
// own, that is only what was copied.
func (c *Copier) surplus(ctx context.Context, service, kind string, seen map[string]bool) error {
	mapped := c.To.here(&transfer.Record{ServiceSID: service}).ServiceSID
	here := &Source{Client: c.To.REST(), Patience: c.To.Patience}
	b := &batch{target: c.To}
	for o, err := range here.objects(ctx, mapped, kind) {
		if client.IsNotFound(err) {
			break // nothing of it is here
		}
		if err != nil {
			return err
		}
		if seen[o.SID] {
			continue
		}
		if _, copied := c.State.has(o.SID); !copied && mapped != service {
			continue
		}
		if !c.Delete || c.To.Compare {
			c.To.Report.onlyHere(o)
			continue
		}
		o.Remove = true
		if err := b.add(ctx, o); err != nil {
			return err
		}
	}
	return b.flush(ctx)
}

// object copies one object as it is now, or removes it if it is gone.
func (c *Copier) object(ctx context.Context, from *Source, o *transfer.Record) error {
	for try := 1; ; try++ {
		now, refused, err := c.attempt(ctx, from, o)
		if client.IsNotFound(err) {
			return c.remove(ctx, o)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.Name(), err)
		}
		if versionOf(now) == versionOf(o) {
			return c.done(o, refused)
		}
		if o = now; try == rereads {
			c.To.Report.differs(o, "it changed whenever it was read: its next version is still to be copied")
			return nil
		}
	}
}

// due reports whether another version of an object was done last, if any was.
func (c *Copier) due(o *transfer.Record) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused[o.SID] == versionOf(o) {
		return false
	}
	last, known := c.State.has(o.SID)
	return !known || last.Version != versionOf(o)
}

// done remembers that an object was copied; one of which something was refused only
// for as long as this command runs.
func (c *Copier) done(o *transfer.Record, refused bool) error {
	switch {
	case c.To.Compare:
		return nil
	case !refused:
		return c.State.copied(o)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = map[string]string{}
	}
	c.refused[o.SID] = versionOf(o)
	return nil
}

// attempt brings an object with its parts as it reads them, and returns the object as
// it is after that, and whether something was refused. If it is another version by
// then, it is not whole.
func (c *Copier) attempt(ctx context.Context, from *Source, o *transfer.Record) (now *transfer.Record, refused bool, err error) {
	if o.Updated == "" { // it was not listed
		if o, err = from.again(ctx, o); err != nil {
			return nil, false, err
		}
	}
	b := &batch{target: c.To}
	if err := b.add(ctx, o); err != nil {
		return nil, false, err
	}
	items, identities := map[uint64]bool{}, map[uint64]bool{}
	err = from.parts(ctx, o, func(part *transfer.Record) error {
		set := items
		if part.Kind == transfer.Permission {
			set = identities
		}
		if n := number(part); !set[n] { // a page may repeat what another one had
			set[n] = true
			return b.add(ctx, part)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	now = o // the data of a document came with it
	if o.IsCollection() {
		if now, err = from.again(ctx, o); err != nil || versionOf(now) != versionOf(o) {
			return now, false, err
		}
	}
	if err := b.flush(ctx); err != nil {
		return nil, false, err
	}
	if _, known := c.State.has(o.SID); known && !c.To.Compare && o.Kind != transfer.Stream {
		if err := c.purge(ctx, o, "Permissions", transfer.Permission, identities); err != nil {
			return nil, false, err
		}
	}
	if o.IsCollection() {
		err = c.whole(ctx, b, o, items)
	}
	return now, b.refused, err
}

// whole says of a collection that its items have come, after it has removed what is
// not among them.
func (c *Copier) whole(ctx context.Context, b *batch, o *transfer.Record, items map[uint64]bool) error {
	count := uint64(len(items))
	last := *o
	last.Items = &count
	outcome, err := b.last(ctx, &last)
	if err == nil && outcome.Difference == admin.DifferenceExtra && !c.To.Compare {
		kind := map[string]string{transfer.List: transfer.ListItem, transfer.Map: transfer.MapItem}[o.Kind]
		if err = c.purge(ctx, o, "Items", kind, items); err == nil {
			outcome, err = b.last(ctx, &last)
		}
	}
	if err == nil {
		c.To.tell(&last, outcome)
	}
	return err
}

var seed = maphash.MakeSeed()

// number stands for a part among the parts of one object. A million of them are in
// memory at most; for two of a million keys to have one number is a chance of 1 in
// 10^7, and costs an item that was removed at the source.
func number(part *transfer.Record) uint64 {
	switch {
	case part.Index != nil:
		return *part.Index
	case part.Key != nil:
		return maphash.String(seed, *part.Key)
	}
	return maphash.String(seed, part.Identity)
}

// purge removes those parts of a copied object that are not at the source.
func (c *Copier) purge(ctx context.Context, o *transfer.Record, below, kind string, keep map[uint64]bool) error {
	here := &Source{Client: c.To.REST(), Patience: c.To.Patience}
	b := &batch{target: c.To}
	for part, err := range here.list(ctx, pathOf(c.To.here(o), below), kind) {
		if client.IsNotFound(err) {
			break // it could not be made here, as was reported
		}
		if err != nil {
			return err
		}
		if !keep[number(part)] {
			part.Remove = true
			if err := b.add(ctx, part); err != nil {
				return err
			}
		}
	}
	return b.flush(ctx)
}

// remove takes an object away that was copied and is gone at the source.
func (c *Copier) remove(ctx context.Context, o *transfer.Record) error {
	last, known := c.State.has(o.SID)
	if !known || last.Service != o.ServiceSID || last.Kind != o.Kind { // as a forged webhook may say
		return nil
	}
	if c.To.Compare {
		c.To.Report.onlyHere(o)
		return nil
	}
	if there, err := c.From.fork().hasService(ctx, o.ServiceSID); !there || err != nil {
		return err // with its service, which is another matter
	}
	gone := *o
	gone.Remove, gone.Items = true, nil
	b := &batch{target: c.To}
	if err := b.add(ctx, &gone); err != nil {
		return err
	}
	if err := b.flush(ctx); err != nil {
		return err
	}
	return c.State.add(entry{SID: o.SID, Gone: true})
}
