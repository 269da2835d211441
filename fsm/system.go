package fsm

import "lockstep/objects"

// DefaultService is the unique name of the service that every installation has.
const DefaultService = "default"

// Initialise names a new cluster and its account, and makes the default
// service. Only the first one has an effect.
type Initialise struct {
	ClusterID  string      `cbor:"1,keyasint"`
	AccountSID string      `cbor:"2,keyasint"`
	AuthToken  string      `cbor:"3,keyasint"`
	Service    objects.SID `cbor:"4,keyasint"` // of the default service
}

func (op *Initialise) apply(tx *tx) Result {
	v := tx.view
	if v.meta.ClusterID != "" {
		return Result{}
	}
	v.meta.ClusterID, v.meta.AccountSID, v.meta.AuthToken = op.ClusterID, op.AccountSID, op.AuthToken
	create := CreateService{SID: op.Service, UniqueName: DefaultService, Settings: DefaultSettings()}
	return create.apply(tx)
}

// DefaultSettings are those of a service made with nothing said.
func DefaultSettings() objects.ServiceSettings {
	return objects.ServiceSettings{DebounceWindow: objects.DefaultDebounce}
}

// startTerm is the first command of a leader's term.
type startTerm struct{}

// TermStarted returns the command with which a leader starts its term. Once it is
// applied, the leader's commit index covers all that earlier terms acknowledged.
func TermStarted(id CommandID) *Command { return &Command{ID: id, Op: &startTerm{}} }

func (*startTerm) apply(tx *tx) Result {
	tx.view.meta.TermStarted = tx.view.Term()
	tx.settle()
	return Result{}
}
