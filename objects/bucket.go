package objects

// Bucket is what a rate limit counts: requests of one class, for one object or
// service, by one identity. The zero Bucket counts nothing.
type Bucket struct {
	Class BucketClass `cbor:"1,keyasint"`
	SID   SID         `cbor:"2,keyasint"` // of the object; of the service where the class says so

	// Identity is that of the access token; empty for REST credentials, and in
	// what all share.
	Identity string `cbor:"3,keyasint,omitempty"`
}

// BucketClass says which requests a bucket counts.
type BucketClass uint8

// The numbers travel between nodes: never reuse one.
const (
	BucketNone             BucketClass = 0
	BucketWrites           BucketClass = 1 // of a document, or of a list or map with its items
	BucketReads            BucketClass = 2 // likewise
	BucketMessages         BucketClass = 3 // of a stream
	BucketPermissionWrites BucketClass = 4 // of an object's permissions
	BucketPermissionReads  BucketClass = 5
	BucketQueries          BucketClass = 6 // live and instant ones of a map
	BucketNewDocuments     BucketClass = 7 // of a service
	BucketNewLists         BucketClass = 8
	BucketNewMaps          BucketClass = 9
	BucketNewStreams       BucketClass = 10
	BucketMisses           BucketClass = 11 // of a service: for what is not there, or not the caller's

	// BucketClasses is one more than the highest number.
	BucketClasses = 12
)

var bucketClasses = [BucketClasses]struct {
	name   string
	ofKind bool // the name is followed by that of the object's kind
}{
	BucketNone:             {"none", false},
	BucketWrites:           {"write", true},
	BucketReads:            {"read", true},
	BucketMessages:         {"publish", true},
	BucketPermissionWrites: {"write-permission", false},
	BucketPermissionReads:  {"read-permission", false},
	BucketQueries:          {"query", true},
	BucketNewDocuments:     {"create-document", false},
	BucketNewLists:         {"create-list", false},
	BucketNewMaps:          {"create-map", false},
	BucketNewStreams:       {"create-stream", false},
	BucketMisses:           {"missing", false},
}

// NewObjects returns the class of the creation of objects of a kind.
func NewObjects(kind Kind) BucketClass {
	switch kind {
	case KindDocument:
		return BucketNewDocuments
	case KindList:
		return BucketNewLists
	case KindMap:
		return BucketNewMaps
	case KindStream:
		return BucketNewStreams
	}
	return BucketNone
}

// String returns the bucket's name as clients see it when they are refused:
// "write-map-MP…". It does not tell whether an identity's part of what all share
// is used up, or the whole.
func (b Bucket) String() string {
	if b.Class >= BucketClasses {
		return b.SID.String()
	}
	c := bucketClasses[b.Class]
	if c.ofKind {
		return c.name + "-" + b.SID.Kind().String() + "-" + b.SID.String()
	}
	return c.name + "-" + b.SID.String()
}
