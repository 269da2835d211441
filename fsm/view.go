package fsm

import (
	"slices"
	"sync"

	"lockstep/objects"
)

// View is the whole state right after one log entry. A published view never
// changes: any number of goroutines may read it, without a lock, for as long as
// they like. (Holding one keeps its version of the data in memory.)
//
// The data is a handful of flat ordered trees of immutable records, copied on
// write, so that publishing costs the same for one object and for a million.
type View struct {
	meta meta

	services    *table[*objects.Service]    // by number
	objects     *table[*storedObject]       // by service, kind, number
	sids        *table[sidEntry]            // services and objects by SID
	names       *table[nameEntry]           // services and objects by unique name
	items       *table[*objects.Item]       // by object, then index or key
	changes     *table[*objects.Item]       // the same items by object, then last event id
	tombstones  *table[*Tombstone]          // by object, then event id
	byAge       *table[*Tombstone]          // the same tombstones by age
	permissions *table[*objects.Permission] // by object, then identity
	keys        *table[*objects.APIKey]     // by SID
	expiries    *table[expiry]              // by time
	usage       *table[usage]               // by service; made of the objects
	garbage     *table[garbage]             // removed collections and services whose parts are still in the trees
	outbox      *table[*Delivery]           // by sequence number
	waiting     *table[*Delivery]           // the same deliveries by service, then sequence number
	shares      *table[share]               // of the outbox, by service
	byWeight    *table[share]               // the same shares, the greatest last
	endpoints   *table[Endpoint]            // by service, identity, endpoint
	connections *table[Endpoint]            // the same endpoints by node
	absences    *table[expiry]              // of the expiries those of endpoints, by service and identity
	sealed      *table[*Sealed]             // by name
	leases      *table[Lease]               // by name
	durables    *table[*Durable]            // by list
	producers   *table[*knownProducer]      // by list, then id
	holders     *table[*Holder]             // of items, by service, identity, id
	lapses      *table[*Holder]             // of the holders those who are letting go, by time
	holds       *table[hold]                // by map, key, holder
	held        *table[hold]                // the same holds by holder

	corrections hash64   // what the tables' sums were off by, as recounts found
	recounts    Recounts // all of them
}

// meta is the part of the state that is one record.
type meta struct {
	Index       uint64 `cbor:"1,keyasint"`
	Term        uint64 `cbor:"2,keyasint"`
	TermStarted uint64 `cbor:"3,keyasint"`
	Time        int64  `cbor:"4,keyasint"`
	NextNum     uint64 `cbor:"5,keyasint"`
	NextSeq     uint64 `cbor:"6,keyasint"`
	ClusterID   string `cbor:"7,keyasint"`
	AccountSID  string `cbor:"8,keyasint"`
	AuthToken   string `cbor:"9,keyasint"`
	Dropped     uint64 `cbor:"10,keyasint,omitempty"` // deliveries given up for want of room
	SecondToken string `cbor:"20,keyasint,omitempty"`

	Level Level `cbor:"11,keyasint"`

	ClusterKey KeyID        `cbor:"21,keyasint"`
	Rotation   *KeyRotation `cbor:"22,keyasint,omitempty"`

	Digest Digest `cbor:"40,keyasint"` // of the last entry with commands
	Sum    hash64 `cbor:"41,keyasint"` // of all records
}

func newView() *View {
	return &View{
		meta:        meta{Level: Level1},
		services:    newTable(func(a, b *objects.Service) bool { return a.Num < b.Num }, serviceSize, hashService),
		objects:     newTable(lessObject, storedObjectSize, hashObject),
		sids:        newTable(lessSID, nil, nil),
		names:       newTable(lessName, nil, nil),
		items:       newTable(lessItem, itemSize, hashItem),
		changes:     newTable(lessChange, nil, nil),
		tombstones:  newTable(lessTombstone, tombstoneSize, hashTombstone),
		byAge:       newTable(lessByAge, nil, nil),
		permissions: newTable(lessPermission, permissionSize, hashPermission),
		keys:        newTable(func(a, b *objects.APIKey) bool { return string(a.SID[:]) < string(b.SID[:]) }, keySize, hashKey),
		expiries:    newTable(lessExpiry, nil, hashExpiry),
		usage:       newTable(func(a, b usage) bool { return a.service < b.service }, nil, nil),
		garbage:     newTable(lessGarbage, nil, hashGarbage),
		outbox:      newTable(func(a, b *Delivery) bool { return a.Seq < b.Seq }, deliverySize, hashDelivery),
		waiting:     newTable(lessByService, nil, nil),
		shares:      newTable(func(a, b share) bool { return a.service < b.service }, nil, nil),
		byWeight:    newTable(lessByWeight, nil, nil),
		endpoints:   newTable(lessEndpoint, endpointSize, hashEndpoint),
		connections: newTable(lessConnection, nil, nil),
		absences:    newTable(lessAbsence, nil, nil),
		sealed:      newTable(lessSealed, sealedSize, hashSealed),
		leases:      newTable(lessLease, nil, hashLease),
		durables:    newTable(func(a, b *Durable) bool { return a.Object < b.Object }, durableSize, hashDurable),
		producers:   newTable(lessProducer, producerSize, hashProducer),
		holders:     newTable(lessHolder, holderSize, hashHolder),
		lapses:      newTable(lessLapse, nil, nil),
		holds:       newTable(lessHold, holdSize, hashHold),
		held:        newTable(lessHeld, nil, nil),
	}
}

// publish returns a version of the view that is never written to.
func (v *View) publish() *View { return v.version(true) }

// copy returns an independent version of the view.
func (v *View) copy() *View { return v.version(false) }

// version is publish or copy. The receiver must be the working version of the apply
// goroutine: copying writes to its trees.
func (v *View) version(forReaders bool) *View {
	return &View{
		meta: v.meta, services: v.services.version(forReaders), objects: v.objects.version(forReaders), sids: v.sids.version(forReaders),
		names: v.names.version(forReaders), items: v.items.version(forReaders), changes: v.changes.version(forReaders), tombstones: v.tombstones.version(forReaders), byAge: v.byAge.version(forReaders),
		permissions: v.permissions.version(forReaders), keys: v.keys.version(forReaders), expiries: v.expiries.version(forReaders), usage: v.usage.version(forReaders), garbage: v.garbage.version(forReaders),
		outbox: v.outbox.version(forReaders), endpoints: v.endpoints.version(forReaders),
		waiting: v.waiting.version(forReaders), shares: v.shares.version(forReaders), byWeight: v.byWeight.version(forReaders),
		connections: v.connections.version(forReaders), absences: v.absences.version(forReaders),
		sealed: v.sealed.version(forReaders), leases: v.leases.version(forReaders),
		durables: v.durables.version(forReaders), producers: v.producers.version(forReaders),
		corrections: v.corrections, recounts: v.recounts,
		holders: v.holders.version(forReaders), lapses: v.lapses.version(forReaders), holds: v.holds.version(forReaders), held: v.held.version(forReaders),
	}
}

func lessObject(a, b *storedObject) bool {
	if a.Service != b.Service {
		return a.Service < b.Service
	}
	if ka, kb := a.Kind(), b.Kind(); ka != kb {
		return ka < kb
	}
	return a.Num < b.Num
}

func lessItem(a, b *objects.Item) bool {
	if a.Object != b.Object {
		return a.Object < b.Object
	}
	if a.Index != b.Index {
		return a.Index < b.Index
	}
	return objects.CompareKeys(a.Key, b.Key) < 0
}

func lessChange(a, b *objects.Item) bool {
	if a.Object != b.Object {
		return a.Object < b.Object
	}
	return a.EventID < b.EventID
}

func lessPermission(a, b *objects.Permission) bool {
	if a.Object != b.Object {
		return a.Object < b.Object
	}
	return a.Identity < b.Identity
}

// Index is the log index of the last entry that the view contains.
func (v *View) Index() uint64 { return v.meta.Index }

// Term is the raft term of that entry.
func (v *View) Term() uint64 { return v.meta.Term }

// TermStarted is the raft term of the last entry that carried a TermStarted command.
func (v *View) TermStarted() uint64 { return v.meta.TermStarted }

// Time is the state's own clock in Unix milliseconds: the leader's stamp on the
// last batch, never going backwards.
func (v *View) Time() int64 { return v.meta.Time }

// ClusterID names the cluster; empty before it was initialised.
func (v *View) ClusterID() string { return v.meta.ClusterID }

// Account returns the account's SID and auth token; empty before the cluster was
// initialised.
func (v *View) Account() (sid, token string) { return v.meta.AccountSID, v.meta.AuthToken }

// AuthTokens returns the tokens that open the account: the one that webhooks are
// signed with, and the second while the account changes over.
func (v *View) AuthTokens() []string {
	if v.meta.SecondToken == "" {
		return []string{v.meta.AuthToken}
	}
	return []string{v.meta.AuthToken, v.meta.SecondToken}
}

// Ref addresses an object or service by SID or by unique name.
type Ref struct {
	SID  objects.SID `cbor:"1,keyasint,omitempty"`
	Name string      `cbor:"2,keyasint,omitempty"`
}

func (r *Ref) describe(f *form) {
	f.array(1, r.SID[:])
	f.text(2, &r.Name, optional)
}

// ParseRef reads a path segment: what looks like a SID is one. A SID of no
// known kind addresses nothing.
func ParseRef(text string) Ref {
	if objects.LooksLikeSID(text) {
		sid, _ := objects.ParseSID(text)
		return Ref{SID: sid}
	}
	return Ref{Name: text}
}

// Gone is the refusal when nothing of a kind is addressed.
func (r Ref) Gone(kind objects.Kind) *objects.Error {
	if r.Name != "" && kind != objects.KindService {
		return objects.ErrNameGone
	}
	return objects.ErrGone(kind)
}

// Service finds a service.
func (v *View) Service(ref Ref) (*objects.Service, bool) {
	num, ok := v.resolve(0, objects.KindService, ref)
	if !ok {
		return nil, false
	}
	return v.ServiceByNumber(num)
}

// ServiceByNumber finds a service by its number.
func (v *View) ServiceByNumber(num uint64) (*objects.Service, bool) {
	sought := soughtServices.Get().(*objects.Service)
	defer soughtServices.Put(sought)
	sought.Num = num
	return v.services.Get(sought)
}

// Records that stand for what is looked up: their memory is used again.
var (
	soughtServices = sync.Pool{New: func() any { return new(objects.Service) }}
	soughtObjects  = sync.Pool{New: func() any { return new(storedObject) }}
)

// Span is a stretch of a collection in its one order: at most Limit entries
// right behind After or, if Before is given, right in front of Before. Neither
// entry needs to exist, and the zero value of a position is none.
type Span[Position uint64 | string] struct {
	After, Before Position
	Limit         int
}

// Services returns a stretch of the services, by creation. Positions are their
// numbers.
func (v *View) Services(span Span[uint64]) []*objects.Service {
	every := func(*objects.Service) bool { return true }
	if span.Before > 0 {
		return collectBack(v.services, &objects.Service{Num: span.Before}, span.Limit, every)
	}
	return collect(v.services, &objects.Service{Num: span.After + 1}, span.Limit, every)
}

// Object finds an object of a kind in a service.
func (v *View) Object(service uint64, kind objects.Kind, ref Ref) (*objects.Object, bool) {
	return whatItIs(v.lookUp(service, kind, ref))
}

// ObjectBySID finds an object whatever its service.
func (v *View) ObjectBySID(sid objects.SID) (*objects.Object, bool) {
	return whatItIs(v.objectBySID(sid))
}

func (v *View) objectBySID(sid objects.SID) (*storedObject, bool) {
	e, ok := v.sids.Get(sidEntryOf(sid, 0, 0))
	if !ok || sid.Kind() == objects.KindService {
		return nil, false
	}
	return v.object(e.service, sid.Kind(), e.is.num())
}

// ServiceOf returns the service of an object.
func (v *View) ServiceOf(o *objects.Object) (*objects.Service, bool) {
	return v.ServiceByNumber(o.Service)
}

func (v *View) object(service uint64, kind objects.Kind, num uint64) (*storedObject, bool) {
	sought := soughtObjects.Get().(*storedObject)
	defer soughtObjects.Put(sought)
	sought.Service, sought.Num, sought.SID[0] = service, num, byte(kind)
	return v.objects.Get(sought)
}

// placeOf is an object that stands for a place in the order of objects.
func placeOf(service uint64, kind objects.Kind, num uint64) *storedObject {
	o := &storedObject{Object: objects.Object{Service: service, Num: num}}
	o.SID[0] = byte(kind)
	return o
}

func (v *View) lookUp(service uint64, kind objects.Kind, ref Ref) (*storedObject, bool) {
	num, ok := v.resolve(service, kind, ref)
	if !ok {
		return nil, false
	}
	return v.object(service, kind, num)
}

// whatItIs returns the part of a stored object that may leave the package.
func whatItIs(o *storedObject, ok bool) (*objects.Object, bool) {
	if !ok {
		return nil, false
	}
	return &o.Object, true
}

func (v *View) resolve(service uint64, kind objects.Kind, ref Ref) (num uint64, ok bool) {
	if !ref.SID.IsZero() {
		if kind == objects.KindService && v.services.Len() <= fewServices {
			return v.amongFew(ref.SID)
		}
		e, ok := v.sids.Get(sidEntryOf(ref.SID, 0, 0))
		return e.is.num(), ok && ref.SID.Kind() == kind && e.service == service
	}
	if ref.Name == "" {
		return 0, false
	}
	e, ok := v.names.Get(nameEntryOf(service, kind, ref.Name, 0))
	return e.is.num(), ok
}

// fewServices is how many services are looked through faster than the SIDs of all
// objects. Every command names one.
const fewServices = 8

func (v *View) amongFew(sid objects.SID) (num uint64, ok bool) {
	v.services.Scan(func(s *objects.Service) bool {
		if ok = s.SID == sid; ok {
			num = s.Num
		}
		return !ok
	})
	return num, ok
}

// Objects returns a stretch of a service's objects of one kind, by creation.
// Positions are their numbers.
func (v *View) Objects(service uint64, kind objects.Kind, span Span[uint64]) []*objects.Object {
	stored := v.storedObjects(service, kind, span)
	out := make([]*objects.Object, len(stored))
	for i, o := range stored {
		out[i] = &o.Object
	}
	return out
}

func (v *View) storedObjects(service uint64, kind objects.Kind, span Span[uint64]) []*storedObject {
	within := func(o *storedObject) bool { return o.Service == service && o.Kind() == kind }
	if span.Before > 0 {
		return collectBack(v.objects, placeOf(service, kind, span.Before), span.Limit, within)
	}
	return collect(v.objects, placeOf(service, kind, span.After+1), span.Limit, within)
}

// ItemKey addresses an item within its list (by Index) or map (by Key).
type ItemKey struct {
	Index uint64 `cbor:"1,keyasint,omitempty"`
	Key   string `cbor:"2,keyasint,omitempty"`
}

func (k *ItemKey) describe(f *form) {
	uintField(f, 1, &k.Index, optional)
	f.text(2, &k.Key, optional)
}

// Item finds one item of a list or map.
func (v *View) Item(o *objects.Object, k ItemKey) (*objects.Item, bool) {
	return v.items.Get(&objects.Item{Object: o.Num, Index: k.Index, Key: k.Key})
}

// Range is a stretch of a collection's items in one direction.
type Range struct {
	From      *ItemKey // nil: from the end where the direction starts
	Exclusive bool     // leave out an item at From itself
	Desc      bool
	Limit     int
}

// Items returns the items of a stretch, in its direction.
func (v *View) Items(o *objects.Object, r Range) []*objects.Item {
	out := make([]*objects.Item, 0, min(r.Limit, objects.MaxPageSize))
	visit := func(i *objects.Item) bool {
		if i.Object != o.Num || len(out) >= r.Limit {
			return false
		}
		if !r.Exclusive || r.From == nil || i.Index != r.From.Index || i.Key != r.From.Key {
			out = append(out, i)
		}
		return true
	}
	switch {
	case !r.Desc && r.From == nil:
		v.items.Ascend(&objects.Item{Object: o.Num}, visit)
	case !r.Desc:
		v.items.Ascend(&objects.Item{Object: o.Num, Index: r.From.Index, Key: r.From.Key}, visit)
	case r.From == nil:
		// No list reaches this index, and every key of a map sorts below it.
		v.items.Descend(&objects.Item{Object: o.Num, Index: ^uint64(0)}, visit)
	default:
		v.items.Descend(&objects.Item{Object: o.Num, Index: r.From.Index, Key: r.From.Key}, visit)
	}
	return out
}

// EachItem calls visit for every item of a collection, in order, until it
// returns false.
func (v *View) EachItem(o *objects.Object, visit func(*objects.Item) bool) {
	v.items.Ascend(&objects.Item{Object: o.Num}, func(i *objects.Item) bool { return i.Object == o.Num && visit(i) })
}

// Permission finds what an identity was explicitly given on an object.
func (v *View) Permission(o *objects.Object, identity string) (*objects.Permission, bool) {
	return v.permissions.Get(&objects.Permission{Object: o.Num, Identity: identity})
}

// Permissions returns a stretch of an object's permissions, by identity.
func (v *View) Permissions(o *objects.Object, span Span[string]) []*objects.Permission {
	pivot := &objects.Permission{Object: o.Num, Identity: span.After}
	within := func(p *objects.Permission) bool { return p.Object == o.Num }
	if span.Before != "" {
		pivot.Identity = span.Before
		return collectBack(v.permissions, pivot, span.Limit, within)
	}
	if span.After != "" {
		pivot.Identity += "\x00" // the next one there could be
	}
	return collect(v.permissions, pivot, span.Limit, within)
}

// May reports whether an actor has rights on an object. Only token holders in a
// service with access control are bound, and streams have no permissions.
func (v *View) May(a Actor, s *objects.Service, o *objects.Object, want objects.Rights) bool {
	if !a.Token || !s.ACLEnabled || o.Kind() == objects.KindStream {
		return true
	}
	p, ok := v.Permission(o, a.Identity)
	return ok && p.Rights.Has(want)
}

// Find finds an object on which an actor has the rights that it wants, with its
// service. What is refused first is a service that does not exist, then an object
// that does not, then the permission.
func (v *View) Find(a Actor, service Ref, kind objects.Kind, ref Ref, want objects.Rights) (*objects.Service, *objects.Object, *objects.Error) {
	s, o, refused := v.find(a, service, kind, ref, want)
	if refused != nil {
		return nil, nil, refused
	}
	return s, &o.Object, nil
}

func (v *View) find(a Actor, service Ref, kind objects.Kind, ref Ref, want objects.Rights) (*objects.Service, *storedObject, *objects.Error) {
	s, ok := v.Service(service)
	if !ok {
		return nil, nil, objects.ErrServiceGone
	}
	o, ok := v.lookUp(s.Num, kind, ref)
	if !ok {
		return nil, nil, ref.Gone(kind)
	}
	if !v.May(a, s, &o.Object, want) {
		return nil, nil, objects.ErrForbidden
	}
	return s, o, nil
}

// Key finds an API key.
func (v *View) Key(sid objects.SID) (*objects.APIKey, bool) {
	return v.keys.Get(&objects.APIKey{SID: sid})
}

// Keys returns all API keys, by SID.
func (v *View) Keys() []*objects.APIKey { return v.keys.Items() }

// Count returns the number of services, objects and items, for metrics.
func (v *View) Count() (services, objs, items int) {
	return v.services.Len(), v.objects.Len(), v.items.Len()
}

func collect[T any](t *table[T], from T, limit int, within func(T) bool) []T {
	out := make([]T, 0, min(limit, objects.MaxPageSize))
	t.Ascend(from, func(x T) bool {
		if len(out) >= limit || !within(x) {
			return false
		}
		out = append(out, x)
		return true
	})
	return out
}

// collectBack returns the last entries in front of an entry, in the tree's order.
func collectBack[T any](t *table[T], before T, limit int, within func(T) bool) []T {
	out := make([]T, 0, min(limit, objects.MaxPageSize))
	t.Descend(before, func(x T) bool {
		if !t.less(x, before) {
			return true // the entry itself
		}
		if len(out) >= limit || !within(x) {
			return false
		}
		out = append(out, x)
		return true
	})
	slices.Reverse(out)
	return out
}
