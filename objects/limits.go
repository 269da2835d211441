package objects

// The limits of the domain. Sizes are bytes, names are counted in Unicode code
// points, times are in the unit of their name.
const (
	MaxData         = 16 << 10 // a document, a list item, a map item
	MaxMessage      = 4 << 10  // a stream message
	MaxDepth        = 512      // nesting of a JSON value
	MaxItems        = 1_000_000
	MaxName         = 320 // unique names and map keys
	MaxIdentity     = 256
	MaxFriendly     = 255
	MaxWebhookURL   = 512
	MaxTTLSeconds   = 31_536_000
	MinDebounce     = 1_000 // milliseconds
	MaxDebounce     = 30_000
	DefaultDebounce = 5_000

	DefaultPageSize = 50
	MaxPageSize     = 100

	MaxHeld         = 100 // items that one session, or one lease, holds
	MaxHolders      = 32  // sessions and leases that hold one item
	MinGraceSeconds = 5   // after which a session that is gone, or a lease, lets go
	MaxGraceSeconds = 3_600
	DefaultGrace    = 10 // seconds

	MaxSubscriptions = 2_000 // of one session
	MaxQueryResult   = 200   // items in the result of a live query
)
