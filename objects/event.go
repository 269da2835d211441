package objects

// EventID numbers the events of one object: strictly rising, without gaps
// (but for those that the recovery of a cluster leaves), never given twice. An object starts at 0, before its first event.
type EventID uint64

// EventType says what happened. Types that start with one of the four kinds
// are told to subscribers; the others concern access.
type EventType uint8

const (
	ObjectCreated  EventType = 1 + iota // no event id: nobody can have subscribed
	ObjectUpdated                       // a document has new data
	ObjectRemoved                       // or expired
	ContextUpdated                      // a list has a new context
	ItemAdded
	ItemUpdated
	ItemRemoved       // or expired
	MessagePublished  // on a stream
	PermissionChanged // of one identity on one object
	ServiceChanged    // its settings: access control may have been switched
	ServiceRemoved    // with all that it held
	KeyRevoked        // tokens signed with it are void
	EndpointConnected // the first connection of a client's endpoint; these two are for webhooks only
	EndpointDisconnected
	ListClosed // as a durable stream: no item is added or changed any more

	// EventTypes is one more than the highest number.
	EventTypes
)

// Event is what one command did to one object. It points at the immutable
// records that held right after it (right before it, for a removal).
type Event struct {
	Type     EventType
	ID       EventID // 0 for types without one
	At       int64   // Unix milliseconds of the log entry
	Service  *Service
	Object   *Object
	Item     *Item
	Identity string // who did it (PermissionChanged: whose permission it is); "system" for REST and expiry
	Key      SID    // KeyRevoked
	Message  *Message
	Ended    bool // what is removed had come to the end of its time, or of its lease: nobody pays for that
	Imported bool // by the owner's import: it costs nobody anything, and webhooks do not hear of it
}

// Message is one message of a stream.
type Message struct {
	SID  SID
	Data []byte
}
