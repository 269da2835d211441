package limits

import (
	"lockstep/objects"
	"lockstep/server/ratelimit"
)

// row holds the rates at which the buckets of a class gain tokens. A rate of 0 means
// no limit.
type row struct {
	shared   float64 // the one of all callers
	identity float64 // the one of an access token's identity besides
	each     float64 // the one that each caller has instead
}

// table holds the rates of all classes.
type table [objects.BucketClasses]row

func tableOf(r Rates) table {
	of := func(l Limit) row { return row{shared: l.Rate, identity: l.Identity} }
	return table{
		objects.BucketNone:             {},
		objects.BucketWrites:           of(r.Writes),
		objects.BucketReads:            of(r.Reads),
		objects.BucketMessages:         of(r.Messages),
		objects.BucketQueries:          of(r.Queries),
		objects.BucketNewDocuments:     of(r.Creations),
		objects.BucketNewLists:         of(r.Creations),
		objects.BucketNewMaps:          of(r.Creations),
		objects.BucketNewStreams:       of(r.Creations),
		objects.BucketPermissionWrites: {shared: r.Permissions}, // tokens cannot
		objects.BucketPermissionReads:  {shared: r.Permissions},
		objects.BucketMisses:           {each: r.Misses},
	}
}

func (t *table) row(class objects.BucketClass) row {
	if int(class) >= len(t) {
		return row{} // of a newer release
	}
	return t[class]
}

func (t *table) limits(b objects.Bucket) bool { return t.row(b.Class) != row{} }

// buckets returns the buckets that pay for a charge to b. A bucket without a rate
// does not limit.
func (t *table) buckets(b objects.Bucket) (own, shared ratelimit.Bucket[objects.Bucket]) {
	r := t.row(b.Class)
	own.Key, own.Rate = b, r.each
	if b.Identity != "" && r.each == 0 {
		own.Rate = r.identity
	}
	b.Identity = ""
	shared.Key, shared.Rate = b, r.shared
	return own, shared
}
