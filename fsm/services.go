package fsm

import "lockstep/objects"

// CreateService makes a service.
type CreateService struct {
	SID        objects.SID             `cbor:"1,keyasint"`
	UniqueName string                  `cbor:"2,keyasint,omitempty"`
	Settings   objects.ServiceSettings `cbor:"3,keyasint"`
}

func (op *CreateService) apply(tx *tx) Result {
	if op.UniqueName != "" {
		if _, taken := tx.view.Service(Ref{Name: op.UniqueName}); taken {
			return refuse(objects.ErrNameExists)
		}
	}
	s := &objects.Service{
		Num: tx.nextNum(), SID: op.SID, UniqueName: op.UniqueName,
		Created: tx.now(), Updated: tx.now(), ServiceSettings: op.Settings,
	}
	tx.view.services.Set(s)
	tx.view.sids.Set(sidEntryOf(s.SID, 0, s.Num))
	if s.UniqueName != "" {
		tx.view.names.Set(nameEntryOf(0, objects.KindService, s.UniqueName, s.Num))
	}
	return Result{Service: s}
}

// UpdateService changes the settings that are not nil.
type UpdateService struct {
	FriendlyName         *string `cbor:"1,keyasint,omitempty"`
	WebhookURL           *string `cbor:"2,keyasint,omitempty"`
	WebhooksFromREST     *bool   `cbor:"3,keyasint,omitempty"`
	ReachabilityWebhooks *bool   `cbor:"4,keyasint,omitempty"`
	ACLEnabled           *bool   `cbor:"5,keyasint,omitempty"`
	Debouncing           *bool   `cbor:"6,keyasint,omitempty"`
	DebounceWindow       *int64  `cbor:"7,keyasint,omitempty"`
}

// Change returns settings with the changes made.
func (op *UpdateService) Change(s objects.ServiceSettings) objects.ServiceSettings {
	set(&s.FriendlyName, op.FriendlyName)
	set(&s.WebhookURL, op.WebhookURL)
	set(&s.WebhooksFromREST, op.WebhooksFromREST)
	set(&s.ReachabilityWebhooks, op.ReachabilityWebhooks)
	set(&s.ACLEnabled, op.ACLEnabled)
	set(&s.Debouncing, op.Debouncing)
	set(&s.DebounceWindow, op.DebounceWindow)
	return s
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func (op *UpdateService) apply(tx *tx) Result {
	old, refused := tx.service()
	if refused != nil {
		return refuse(refused)
	}
	s := *old
	s.ServiceSettings = op.Change(s.ServiceSettings)
	s.Updated = tx.now()
	tx.view.services.Set(&s)
	tx.rememberEndpoints(old, &s)
	tx.emit(objects.Event{Type: objects.ServiceChanged, Service: &s})
	return Result{Service: &s}
}

// RemoveService removes a service with all that it holds.
type RemoveService struct{}

func (op *RemoveService) apply(tx *tx) Result {
	s, refused := tx.service()
	if refused != nil {
		return refuse(refused)
	}
	if s.UniqueName == DefaultService {
		return refuse(objects.ErrDefault)
	}
	v := tx.view
	v.services.Delete(s)
	v.sids.Delete(sidEntryOf(s.SID, 0, 0))
	if s.UniqueName != "" {
		v.names.Delete(nameEntryOf(0, objects.KindService, s.UniqueName, 0))
	}
	v.garbage.Set(garbage{Num: s.Num, IsService: true})
	tx.emit(objects.Event{Type: objects.ServiceRemoved, Service: s})
	return Result{Service: s}
}
