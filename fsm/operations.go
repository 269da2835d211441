package fsm

import "reflect"

// operation is one row of the table of operations.
type operation struct {
	kind  opKind
	new   func() Op
	level Level  // from which on a cluster may write it
	by    origin // who makes it
	price Price

	// once says that applying it twice is not like applying it once, so that it has
	// a place in the dedup window.
	once bool

	// needsRoom says that it is refused while the disks are nearly full. Removals,
	// changes of secrets and the cluster's own operations are not.
	needsRoom bool
}

// opKind numbers the operations in the log: never reuse a number.
type opKind uint8

// origin says who makes an operation.
type origin uint8

const (
	byClient  origin = 1 // or its owner: anybody outside the cluster
	byCluster origin = 2 // the nodes themselves
)

// Price says how an operation is charged to its client. The amounts and the rates
// are the server's.
type Price uint8

const (
	// Free is what the cluster makes itself, and what its owner does.
	Free Price = 1
	// PerCreation is one creation of a kind of object in a service.
	PerCreation Price = 2
	// PerWrite is a write of an object or its items, by the size of the data.
	PerWrite Price = 3
	// PerMessage is a message of a stream.
	PerMessage Price = 4
	// PerPermission is a write of an object's permissions.
	PerPermission Price = 5
	// PerRemoval is the removal of an object, whose creation was paid for: it costs
	// something only where there is none.
	PerRemoval Price = 6
	// PerPart is what all operations of a transaction cost.
	PerPart Price = 7
)

const (
	repeatable = false
	once       = true

	needsRoom = true
	always    = false
)

// operations is the table: an operation is its row here and its type, in the
// file of the records that it changes. Numbers are never reused.
var operations = append([]operation{
	{1, of[CreateService], Level1, byClient, Free, once, needsRoom},
	{2, of[UpdateService], Level1, byClient, Free, once, needsRoom},
	{3, of[RemoveService], Level1, byClient, Free, once, always},
	{10, of[CreateObject], Level1, byClient, PerCreation, once, needsRoom},
	{11, of[UpdateObject], Level1, byClient, PerWrite, once, needsRoom},
	{12, of[RemoveObject], Level1, byClient, PerRemoval, once, always},
	{20, of[WriteItem], Level1, byClient, PerWrite, once, needsRoom},
	{21, of[RemoveItem], Level1, byClient, PerWrite, once, always},
	{30, of[Publish], Level1, byClient, PerMessage, once, needsRoom},
	{35, of[Transact], Level1, byClient, PerPart, once, needsRoom},
	{40, of[SetPermission], Level1, byClient, PerPermission, once, needsRoom},
	{41, of[RemovePermission], Level1, byClient, PerPermission, once, always},
	{50, of[CreateKey], Level1, byClient, Free, once, needsRoom},
	{51, of[RevokeKey], Level1, byClient, Free, once, always},
	{52, of[AddAuthToken], Level1, byClient, Free, once, always},
	{53, of[PromoteAuthToken], Level1, byClient, Free, once, always},
	{54, of[DropAuthToken], Level1, byClient, Free, once, always},
	{55, of[RotateKey], Level1, byClient, Free, once, always},
	{56, of[OpenDurable], Level1, byClient, PerCreation, once, needsRoom},
	{57, of[AppendDurable], Level1, byClient, PerWrite, once, needsRoom},
	{58, of[TouchDurable], Level1, byCluster, Free, repeatable, always},
	{59, of[HoldItem], Level1, byClient, PerWrite, once, needsRoom},
	{60, of[Import], Level1, byClient, Free, once, needsRoom},
	{61, of[OpenLease], Level1, byClient, Free, once, needsRoom},
	{62, of[RenewLease], Level1, byClient, Free, once, always},
	{63, of[CloseLease], Level1, byClient, Free, once, always},

	{100, of[Initialise], Level1, byCluster, Free, repeatable, always},
	{101, of[startTerm], Level1, byCluster, Free, repeatable, always},
	{102, of[expire], Level1, byCluster, Free, repeatable, always},
	{103, of[SettleDeliveries], Level1, byCluster, Free, repeatable, always},
	{104, of[ConnectEndpoint], Level1, byCluster, Free, once, always},
	{105, of[DisconnectEndpoint], Level1, byCluster, Free, repeatable, always},
	{106, of[DropEndpoints], Level1, byCluster, Free, repeatable, always},
	{107, of[ReachKeyStage], Level1, byCluster, Free, repeatable, always},
	{108, of[AdvanceKey], Level1, byCluster, Free, repeatable, always},
	{109, of[RaiseLevel], Level1, byCluster, Free, repeatable, always},
	{110, of[recountState], Level1, byCluster, Free, repeatable, always},
	{120, of[Recover], Level1, byCluster, Free, repeatable, always},
	{130, of[StoreSealed], Level1, byCluster, Free, once, always},
	{131, of[RemoveSealed], Level1, byCluster, Free, once, always},
	{132, of[TakeLease], Level1, byCluster, Free, once, always},
	{133, of[EndLease], Level1, byCluster, Free, once, always},
}, next...)

// of makes an empty operation to be decoded into.
func of[T any, P interface {
	*T
	Op
}]() Op {
	return P(new(T))
}

var (
	kinds = make(map[opKind]*operation, len(operations))
	rows  = make(map[reflect.Type]*operation, len(operations))
)

func init() {
	for i := range operations {
		row := &operations[i]
		kinds[row.kind], rows[reflect.TypeOf(row.new())] = row, row
	}
}

// PriceOf returns how an operation is charged to its client.
func PriceOf(op Op) Price { return rows[reflect.TypeOf(op)].price }

// ByClient reports whether an operation is a client's or the owner's, and not made
// by the nodes themselves.
func ByClient(op Op) bool { return rows[reflect.TypeOf(op)].by == byClient }

// NeedsRoom reports whether an operation is refused while the disks are nearly full.
func NeedsRoom(op Op) bool { return rows[reflect.TypeOf(op)].needsRoom }

// Operations returns one empty operation of each kind, for tests that nothing
// which depends on the kind was forgotten.
func Operations() []Op {
	all := make([]Op, len(operations))
	for i, row := range operations {
		all[i] = row.new()
	}
	return all
}
