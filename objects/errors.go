package objects

import (
	"cmp"
	"errors"
	"fmt"
)

// Error is a refusal in the API's own terms. Every refusal that a client can
// meet is one of the values below, possibly with a more exact message.
//
// A function whose every failure is a refusal may return *Error, nil for none.
// Everything else returns error. A *Error becomes an error only where it is
// certain not to be nil, which test/architecture checks: an error that holds a
// nil *Error is not nil.
type Error struct {
	Code       int    // of the Sync API's error dictionary
	Status     int    // of HTTP
	Message    string // for a person
	RetryAfter int    // seconds until trying again makes sense; 0: not said
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Is makes errors.Is compare codes and statuses, whatever the message.
func (e *Error) Is(target error) bool {
	t, ok := errors.AsType[*Error](target)
	return ok && t.Code == e.Code && t.Status == e.Status
}

// With returns a copy of the error with a message of its own.
func (e *Error) With(format string, args ...any) *Error {
	c := *e
	c.Message = fmt.Sprintf(format, args...)
	return &c
}

// After returns a copy of the error that names the seconds to wait.
func (e *Error) After(seconds int) *Error {
	c := *e
	c.RetryAfter = seconds
	return &c
}

// The catalogue. Codes below 54000 are those of the whole API, the others
// those of Sync. Of the API's codes, 54056 (a service of another account) has no
// place: one cluster serves one account.
var (
	ErrParameter    = &Error{Code: 20001, Status: 400, Message: "Invalid or missing parameter"}
	ErrTimeout      = &Error{Code: 20001, Status: 408, Message: "The request did not arrive in time"}
	ErrContentType  = &Error{Code: 20001, Status: 415, Message: "The body must be application/x-www-form-urlencoded or multipart/form-data"}
	ErrUnauthorized = &Error{Code: 20003, Status: 401, Message: "Authenticate"}
	ErrKeyScope     = &Error{Code: 20003, Status: 403, Message: "The API key is restricted and may not do this"}
	ErrForeignPage  = &Error{Code: 20003, Status: 403, Message: "A page of another site may not send this request"}
	ErrMethod       = &Error{Code: 20004, Status: 405, Message: "Method not allowed"}
	ErrNotFound     = &Error{Code: 20404, Status: 404, Message: "The requested resource was not found"}
	ErrTooMany      = &Error{Code: 20429, Status: 429, Message: "Too many requests"}
	ErrInternal     = &Error{Code: 20500, Status: 500, Message: "Internal server error"}
	ErrUnavailable  = &Error{Code: 20503, Status: 503, Message: "No quorum could be reached in time; the write may or may not have happened", RetryAfter: 1}
	ErrOverloaded   = &Error{Code: 20503, Status: 503, Message: "There is more to do than can be done; nothing was written", RetryAfter: 1}

	ErrTokenInvalid     = &Error{Code: 20101, Status: 401, Message: "Invalid access token"}
	ErrTokenExpired     = &Error{Code: 20104, Status: 401, Message: "Access token expired"}
	ErrTokenNotYetValid = &Error{Code: 20105, Status: 401, Message: "Access token not yet valid"}

	ErrRevision      = &Error{Code: 54003, Status: 400, Message: "If-Match is not a revision"}
	ErrTooLarge      = &Error{Code: 54006, Status: 413, Message: "Data is too large"}
	ErrForbidden     = &Error{Code: 54007, Status: 403, Message: "The identity lacks the permission for this"}
	ErrData          = &Error{Code: 54008, Status: 400, Message: "Data is not valid JSON"}
	ErrHistory       = &Error{Code: 54008, Status: 410, Message: "history no longer reaches back; open the object again"}
	ErrRate          = &Error{Code: 54009, Status: 429, Message: "Rate limit exceeded"}
	ErrNothingToDo   = &Error{Code: 54010, Status: 400, Message: "An update needs at least one parameter"}
	ErrTTL           = &Error{Code: 54011, Status: 400, Message: "TTL must be a whole number of seconds from 0 to 31536000"}
	ErrServiceGone   = &Error{Code: 54050, Status: 404, Message: "Service not found"}
	ErrWebhookURL    = &Error{Code: 54051, Status: 400, Message: "WebhookUrl must be an absolute http or https URL of at most 512 characters, all of them ASCII and no spaces"}
	ErrFriendlyName  = &Error{Code: 54053, Status: 400, Message: "FriendlyName must have 1 to 255 characters"}
	ErrTooManyItems  = &Error{Code: 20001, Status: 400, Message: "The collection holds as many items as it may"}
	ErrMoreThanOnce  = &Error{Code: 20001, Status: 400, Message: "This idempotency key was used for another request"}
	ErrSecondToken   = &Error{Code: 20001, Status: 409, Message: "The account has a second auth token already: promote it or drop it first"}
	ErrNoSecondToken = &Error{Code: 20001, Status: 409, Message: "The account has no second auth token"}
	ErrDefault       = &Error{Code: 20001, Status: 400, Message: "The default service cannot be deleted"}
	ErrUnknownWriter = &Error{Code: 20503, Status: 503, Message: "The write is too old to be repeated safely", RetryAfter: 1}

	ErrStateFull   = &Error{Code: 54901, Status: 507, Message: "The installation holds as much as it may; remove something, or raise --max-state-bytes"}
	ErrServiceFull = &Error{Code: 54902, Status: 507, Message: "The service holds as much as it may; remove something, or raise --max-service-bytes"}
	ErrDiskFull    = &Error{Code: 54906, Status: 507, Message: "The disks of the installation have no room; what removes is still taken", RetryAfter: 10}
	ErrKeysFull    = &Error{Code: 54903, Status: 503, Message: "More writes with an idempotency key are remembered than fit; none is forgotten before its time", RetryAfter: 5}
	ErrLevel       = &Error{Code: 54905, Status: 503, Message: "Not all nodes of this cluster run a release that knows this yet; try again when the last one has been upgraded", RetryAfter: 5}
	ErrAnswerGone  = &Error{Code: 54904, Status: 409, Message: "The write with this idempotency key was carried out before, and its answer is no longer kept; read the object"}

	ErrClosed        = &Error{Code: 54907, Status: 409, Message: "The list is closed: no item is added or changed any more"}
	ErrDurableConfig = &Error{Code: 54908, Status: 409, Message: "The stream exists with another configuration"}
	ErrSequence      = &Error{Code: 54909, Status: 409, Message: "The sequence number is not the one that comes next"}
	ErrStaleEpoch    = &Error{Code: 54910, Status: 403, Message: "The producer has begun a later epoch"}
	ErrOffset        = &Error{Code: 54911, Status: 410, Message: "The offset is none of this stream's; begin with -1 or now"}

	ErrLeaseEnded  = &Error{Code: 54912, Status: 409, Message: "The lease has ended, or there was none: open another one"}
	ErrLeaseGone   = &Error{Code: 54912, Status: 404, Message: "Lease not found: it has ended, or there was none"}
	ErrGrace       = &Error{Code: 54913, Status: 400, Message: "The Ttl of a lease must be a whole number of seconds from 5 to 3600"}
	ErrHeldItems   = &Error{Code: 54914, Status: 400, Message: "A session or lease holds at most 100 items"}
	ErrItemHolders = &Error{Code: 54915, Status: 400, Message: "An item is held by at most 32 sessions and leases"}
	ErrPresence    = &Error{Code: 54916, Status: 400, Message: "The client's option tweaks.presence must have maps, 1 to 16 unique names or SIDs of maps, and may have ttl, a whole number of seconds from 5 to 3600"}

	ErrDocumentGone     = &Error{Code: 54100, Status: 404, Message: "Document not found"}
	ErrDocumentNull     = &Error{Code: 54101, Status: 400, Message: "Document data must not be null"}
	ErrDocumentMismatch = &Error{Code: 54103, Status: 412, Message: "The revision of the document does not match"}

	ErrListGone         = &Error{Code: 54150, Status: 404, Message: "List not found"}
	ErrListItemGone     = &Error{Code: 54151, Status: 404, Message: "List item not found"}
	ErrListItemMismatch = &Error{Code: 54155, Status: 412, Message: "The revision of the list item does not match"}
	ErrListItemNull     = &Error{Code: 54156, Status: 400, Message: "List item data is missing or null"}

	ErrMapGone         = &Error{Code: 54200, Status: 404, Message: "Map not found"}
	ErrMapItemGone     = &Error{Code: 54201, Status: 404, Message: "Map item not found"}
	ErrMapItemMismatch = &Error{Code: 54205, Status: 412, Message: "The revision of the map item does not match"}
	ErrMapItemNull     = &Error{Code: 54206, Status: 400, Message: "Map item data is missing or null"}
	ErrMapItemExists   = &Error{Code: 54208, Status: 409, Message: "An item with this key exists already"}
	ErrMapItemKey      = &Error{Code: 54209, Status: 400, Message: "Key must have 1 to 320 characters"}

	ErrStreamGone  = &Error{Code: 54250, Status: 404, Message: "Stream not found"}
	ErrMessageNull = &Error{Code: 54251, Status: 400, Message: "Message data is missing or null"}

	ErrNameGone   = &Error{Code: 54300, Status: 404, Message: "Unique name not found"}
	ErrNameExists = &Error{Code: 54301, Status: 409, Message: "An object with this unique name exists already"}
	ErrName       = &Error{Code: 54302, Status: 400, Message: "UniqueName must have 1 to 320 characters and must not look like a SID"}

	ErrIdentity       = &Error{Code: 54351, Status: 400, Message: "Identity must have 1 to 256 characters"}
	ErrPermissionGone = &Error{Code: 54354, Status: 404, Message: "Permission not found"}

	ErrSubscriptions = &Error{Code: 54419, Status: 429, Message: "A connection may hold at most 2000 subscriptions"}
	ErrDirection     = &Error{Code: 54450, Status: 400, Message: "Direction must be forward or backward"}
	ErrOrder         = &Error{Code: 54451, Status: 400, Message: "Order must be asc or desc"}
	ErrBounds        = &Error{Code: 54452, Status: 400, Message: "Bounds must be inclusive or exclusive"}
	ErrPageToken     = &Error{Code: 54453, Status: 400, Message: "PageToken is not one of this collection"}
	ErrPageSize      = &Error{Code: 54454, Status: 400, Message: "PageSize must be a whole number from 1 on"}
	ErrIndex         = &Error{Code: 54458, Status: 400, Message: "The index of a list item must be a whole number from 0 on"}

	ErrQueryIndex     = &Error{Code: 54500, Status: 404, Message: "There is no such index to query"}
	ErrQueryIndexName = &Error{Code: 54502, Status: 400, Message: "The name of the index is no name of a map"}
	ErrQuery          = &Error{Code: 54507, Status: 400, Message: "The query is not valid"}
	ErrQueryOperators = &Error{Code: 54509, Status: 400, Message: "A query must have less than 30 operators"}
	ErrQueryValues    = &Error{Code: 54510, Status: 400, Message: "A list in a query must have less than 30 values"}
	ErrQueryLarge     = &Error{Code: 54510, Status: 400, Message: "The result of the query has more than 200 items"}
)

// perKind holds the errors that say the same of different kinds.
var perKind = map[Kind]struct{ gone, itemGone, mismatch, null *Error }{
	KindService:  {gone: ErrServiceGone},
	KindDocument: {gone: ErrDocumentGone, mismatch: ErrDocumentMismatch, null: ErrDocumentNull},
	KindList:     {gone: ErrListGone, itemGone: ErrListItemGone, mismatch: ErrListItemMismatch, null: ErrListItemNull},
	KindMap:      {gone: ErrMapGone, itemGone: ErrMapItemGone, mismatch: ErrMapItemMismatch, null: ErrMapItemNull},
	KindStream:   {gone: ErrStreamGone, null: ErrMessageNull},
}

// These four return an error for every kind, also for one of which there is no
// such thing: none is nil.

// ErrGone is the not-found error of a kind of object.
func ErrGone(k Kind) *Error { return cmp.Or(perKind[k].gone, ErrNotFound) }

// ErrItemGone is the not-found error of an item of a list or map.
func ErrItemGone(k Kind) *Error { return cmp.Or(perKind[k].itemGone, ErrNotFound) }

// ErrMismatch is the failed precondition of a document, or of an item of a
// list or map.
func ErrMismatch(k Kind) *Error { return cmp.Or(perKind[k].mismatch, ErrParameter) }

// ErrNull is the refusal of missing or null data of a document, of an item of
// a list or map, or of a message of a stream.
func ErrNull(k Kind) *Error { return cmp.Or(perKind[k].null, ErrParameter) }
