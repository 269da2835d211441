package fsm

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"sync"

	"github.com/cespare/xxhash/v2"

	"lockstep/objects"
)

// Replicas are compared by a digest: a chain over all entries that were applied,
// what they came to, and the state after each. Two stores that ever differed have
// different digests from then on.
//
// The state's part is a sum of the hashes of all records, kept by the tables: a
// record that is replaced or removed is hashed once more, and taken out. So a
// record that was altered in memory shows when it is touched, or when the sum is
// made anew (View.Verify). The hashes are to find faults, not forgers.

// DigestVersion numbers the ways in which a digest is made: those of two versions
// cannot be compared. A new one has to begin its chain anew, at an entry that all
// nodes agree on.
const DigestVersion = 1

// Digest stands for all that a store has applied, up to an entry with commands.
type Digest struct {
	Index uint64 `cbor:"1,keyasint"`
	Hash  uint64 `cbor:"2,keyasint"`
}

// Digest returns that of the view.
func (v *View) Digest() Digest { return v.meta.Digest }

// Digest returns the newest digest at or before an index, unless so many entries
// were applied since that it is forgotten.
func (f *FSM) Digest(index uint64) (Digest, bool) { return f.digests.at(index) }

// ErrAltered: records of the state are not what was put there.
var ErrAltered = errors.New("fsm: the state was altered in memory")

// Verify makes the sum of all records anew, and returns ErrAltered if it is not
// the one that was kept. It reads the whole state.
func (v *View) Verify() error {
	if v.Drift() != 0 {
		return ErrAltered
	}
	return nil
}

// Drift makes the sum of all records anew, and returns how far it is from the one
// that was kept: 0 if the records are what was put there. Two views with the same
// other drift have the same changes in them that the sum does not know of. It
// reads the whole state.
func (v *View) Drift() uint64 {
	var all hash64
	for _, t := range v.counted() {
		all += t.recount()
	}
	return uint64(all - v.meta.Sum)
}

// counted are the tables that have a part in the sum of all records. The others
// are made of these.
func (v *View) counted() []interface{ recount() hash64 } {
	return []interface{ recount() hash64 }{
		v.services, v.objects, v.items, v.tombstones, v.permissions, v.keys, v.expiries, v.garbage, v.outbox, v.endpoints,
		v.sealed, v.leases, v.durables, v.producers, v.holders, v.holds,
	}
}

// sum is that of all records, as the counted tables keep it.
func (v *View) sum() hash64 {
	return v.corrections + v.services.sum + v.objects.sum + v.items.sum + v.tombstones.sum + v.permissions.sum +
		v.keys.sum + v.expiries.sum + v.garbage.sum + v.outbox.sum + v.endpoints.sum + v.sealed.sum + v.leases.sum + v.durables.sum + v.producers.sum +
		v.holders.sum + v.holds.sum
}

// chain adds a log entry, which was applied, to the digest. results stands for
// what its commands came to.
func (v *View) chain(checksum uint64, results hash64) Digest {
	m := &v.meta
	m.Sum = v.sum()
	h := hash64(m.Digest.Hash).pair(m.Index, m.Term).pair(checksum, uint64(results)).num(uint64(m.Sum))
	h = h.pair(m.TermStarted, uint64(m.Time)).pair(m.NextNum, m.NextSeq).pair(m.Dropped, uint64(m.Level))
	h = h.text(m.ClusterID).text(m.AccountSID).text(m.AuthToken).text(m.SecondToken).bytes(m.ClusterKey[:])
	if r := m.Rotation; r != nil {
		h = h.bytes(r.Key[:]).num(uint64(r.Stage))
		for _, server := range r.Done {
			h = h.text(server)
		}
	}
	m.Digest = Digest{Index: m.Index, Hash: uint64(h)}
	return m.Digest
}

// digestLength is how many digests a store remembers: two nodes can be compared
// unless one is further behind than that.
const digestLength = 4096

// digests are the newest ones. Apply adds to them; anybody may look.
type digests struct {
	mu    sync.Mutex
	ring  [digestLength]Digest
	count int // that were ever added
}

func (d *digests) add(x Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ring[d.count%digestLength] = x
	d.count++
}

// reset forgets all, and begins with one if there is one.
func (d *digests) reset(first Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count = 0
	if first.Index > 0 {
		d.ring[0], d.count = first, 1
	}
}

func (d *digests) at(index uint64) (Digest, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	low, high := max(0, d.count-digestLength), d.count // the newest one at or before the index is below high
	for low < high {
		middle := (low + high) / 2
		if d.ring[middle%digestLength].Index <= index {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == max(0, d.count-digestLength) {
		return Digest{}, false
	}
	return d.ring[(low-1)%digestLength], true
}

// hash64 is a hash that grows by one value after the other. Two numbers cost
// what one does.
type hash64 uint64

func (h hash64) pair(x, y uint64) hash64 {
	high, low := bits.Mul64(uint64(h)^x^0x9e3779b97f4a7c15, y^0xa0761d6478bd642f)
	return hash64(high^low) + 0xe7037ed1a0b428db
}

func (h hash64) num(x uint64) hash64     { return h.pair(x, 0) }
func (h hash64) bytes(x []byte) hash64   { return h.pair(xxhash.Sum64(x), uint64(len(x))) }
func (h hash64) times(x, y int64) hash64 { return h.pair(uint64(x), uint64(y)) }

func (h hash64) text(x string) hash64 {
	if len(x) == 0 {
		return h.num(0)
	}
	return h.pair(xxhash.Sum64String(x), uint64(len(x)))
}

func (h hash64) sid(x *objects.SID) hash64 {
	h = h.pair(binary.LittleEndian.Uint64(x[:]), binary.LittleEndian.Uint64(x[8:]))
	return h.num(uint64(x[len(x)-1]))
}

func number(x bool) uint64 {
	if x {
		return 1
	}
	return 0
}

// The hashes of records cover all that a snapshot has of them. Each begins with
// the type of its record.

func hashService(s *objects.Service) hash64 {
	h := hash64(recordService).sid(&s.SID).text(s.UniqueName).times(s.Created, s.Updated)
	h = h.text(s.FriendlyName).text(s.WebhookURL).pair(number(s.WebhooksFromREST), number(s.ReachabilityWebhooks))
	return h.pair(number(s.ACLEnabled), number(s.Debouncing)).pair(uint64(s.DebounceWindow), s.Num)
}

func hashObject(o *storedObject) hash64 {
	h := hash64(recordObject).sid(&o.SID).sid(&o.ServiceSID).text(o.UniqueName).text(o.CreatedBy).bytes(o.Data)
	h = h.pair(o.Num, o.Service).pair(uint64(o.EventID), uint64(o.Expires)).times(o.Created, o.Updated)
	h = h.pair(o.Items, o.NextIndex).pair(o.Tombstones, o.TombstoneBytes).pair(uint64(o.HistoryFloor), uint64(o.ContextEvent))
	return h.pair(uint64(o.ContextAt), o.PartBytes)
}

func hashItem(i *objects.Item) hash64 {
	h := hash64(recordItem).pair(i.Object, i.Index).text(i.Key).pair(uint64(i.Revision), uint64(i.EventID))
	h = h.pair(uint64(i.Added), uint64(i.Expires)).times(i.Created, i.Updated)
	return h.text(i.CreatedBy).bytes(i.Data)
}

func hashTombstone(t *Tombstone) hash64 {
	h := hash64(recordTombstone).pair(t.Object, uint64(t.EventID)).pair(uint64(t.At), uint64(hashItem(t.Item)))
	return h.pair(t.Service, uint64(t.Kind))
}

func hashPermission(p *objects.Permission) hash64 {
	return hash64(recordPermission).text(p.Identity).pair(p.Object, uint64(p.Rights))
}

func hashKey(k *objects.APIKey) hash64 {
	h := hash64(recordKey).sid(&k.SID).text(k.Secret).text(k.FriendlyName)
	return h.num(uint64(k.Created)).pair(number(k.SignOnly), number(k.ReadOnly)|uint64(k.Role)<<1).sid(&k.Service)
}

func hashExpiry(e expiry) hash64 {
	h := hash64(recordExpiry).pair(uint64(e.At), e.Service).pair(uint64(e.Kind), e.Object)
	return h.pair(number(e.IsItem), e.Item.Index).text(e.Item.Key).text(e.Identity).text(e.Endpoint)
}

func hashGarbage(g garbage) hash64 {
	return hash64(recordGarbage).pair(g.Num, number(g.IsService)).pair(g.Service, uint64(g.Kind))
}

func hashDelivery(d *Delivery) hash64 {
	f := &d.Fact
	h := hash64(recordDelivery).pair(d.Seq, d.Service).times(d.Created, d.NotBefore).pair(uint64(d.Attempts), uint64(f.Type))
	h = h.text(f.Identity).text(f.Endpoint).sid(&f.Object).text(f.UniqueName).bytes(f.Data).text(f.Key)
	return h.pair(uint64(f.ObjectRevision), uint64(f.EventID)).pair(f.Index, uint64(f.ItemRevision))
}

func hashSealed(s *Sealed) hash64 {
	return hash64(recordSealed).text(s.Name).bytes(s.Key[:]).bytes(s.Data).pair(uint64(s.Modified), s.Index)
}

func hashLease(l Lease) hash64 {
	return hash64(recordLease).text(l.Name).text(l.Holder).num(uint64(l.Until))
}

func hashDurable(d *Durable) hash64 {
	return hash64(recordDurable).num(d.Object).text(d.ContentType).pair(uint64(d.TTL), uint64(compareBool(d.Closed, false))).text(d.Seq).
		text(d.Closer.ID).pair(d.Closer.Epoch, d.Closer.Seq)
}

func hashProducer(p *knownProducer) hash64 {
	return hash64(recordProducer).num(p.Object).text(p.Last.ID).pair(p.Last.Epoch, p.Last.Seq).num(uint64(p.At))
}

func hashHolder(h *Holder) hash64 {
	return hash64(recordHolder).num(h.Service).text(h.Identity).text(h.ID).times(h.Grace, h.Until).pair(uint64(h.Created), h.Items)
}

func hashHold(x hold) hash64 {
	return hash64(recordHold).pair(x.Service, x.Object).text(x.Key).text(x.Identity).text(x.ID)
}

func hashEndpoint(e Endpoint) hash64 {
	return hash64(recordEndpoint).num(e.Service).text(e.Identity).text(e.ID).text(e.Node).text(e.Session)
}
