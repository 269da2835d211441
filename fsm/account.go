package fsm

import "lockstep/objects"

// The account has one auth token, and a second one while it is being changed:
// both open the API until the second takes the place of the first. Webhooks are
// signed with the first.

// AddAuthToken gives the account a second auth token. There is one at a time.
type AddAuthToken struct {
	Token string `cbor:"1,keyasint"`
}

func (op *AddAuthToken) apply(tx *tx) Result {
	m := &tx.view.meta
	if op.Token == "" || op.Token == m.AuthToken {
		return refuse(objects.ErrParameter)
	}
	if m.SecondToken != "" && m.SecondToken != op.Token {
		return refuse(objects.ErrSecondToken)
	}
	m.SecondToken = op.Token
	return Result{}
}

// PromoteAuthToken makes the second auth token the only one.
type PromoteAuthToken struct{}

func (*PromoteAuthToken) apply(tx *tx) Result {
	m := &tx.view.meta
	if m.SecondToken == "" {
		return refuse(objects.ErrNoSecondToken)
	}
	m.AuthToken, m.SecondToken = m.SecondToken, ""
	return Result{}
}

// DropAuthToken takes the second auth token away again.
type DropAuthToken struct{}

func (*DropAuthToken) apply(tx *tx) Result {
	m := &tx.view.meta
	if m.SecondToken == "" {
		return refuse(objects.ErrNoSecondToken)
	}
	m.SecondToken = ""
	return Result{}
}
