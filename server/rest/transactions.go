package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
)

// A transaction is requests in one request: each operation has the method, the path
// below the service, the parameters and the If-Match that it would have by itself, and
// the handlers of those make it and its answer.

// operationForm is an operation as it comes, in the JSON array of the parameter
// Operations.
type operationForm struct {
	Method  string                     `json:"method"`
	Path    string                     `json:"path"` // "/Maps/scores/Items"
	Params  map[string]json.RawMessage `json:"params"`
	IfMatch string                     `json:"if_match"`
}

// partError is what one operation of a transaction was refused for.
type partError struct {
	number int // from 1 on
	path   string
	err    error
}

func (e *partError) Error() string { return fmt.Sprintf("operation %d: %v", e.number, e.err) }
func (e *partError) Unwrap() error { return e.err }

var errOperations = objects.ErrParameter.With("Operations must be a JSON array of 1 to %d operations, each with method and path, and params and if_match where they are needed", fsm.MaxParts)

func transact(ctx context.Context, c *call) (answer, error) {
	forms, err := c.operations()
	if err != nil {
		return answer{}, c.refuse(ctx, err)
	}
	calls, does, parts := make([]*call, len(forms)), make([]operation, len(forms)), make([]*api.Part, len(forms))
	refused := func(i int, err error) error { return &partError{i + 1, forms[i].Path, err} }
	for i, f := range forms {
		parts[i] = new(api.Part)
		if calls[i], does[i], err = c.part(f, parts[i]); err != nil {
			return answer{}, refused(i, err)
		}
		if _, err := does[i](ctx, calls[i]); !errors.Is(err, api.ErrUndecided) {
			return answer{}, refused(i, err)
		}
	}
	switch i, err := c.api.Transact(ctx, c.caller, parts); {
	case err != nil && i >= 0:
		return answer{}, refused(i, err)
	case err != nil:
		return answer{}, err
	}
	body := []byte(`{"results":[`)
	for i, do := range does {
		a, err := do(ctx, calls[i])
		if err != nil {
			return answer{}, refused(i, err)
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(append(body, `{"status":`...), int64(a.status), 10)
		if a.body != nil {
			body = append(append(body, `,"body":`...), a.body...)
		}
		body = append(body, '}')
	}
	return answer{status: http.StatusOK, body: append(body, `]}`...)}, nil
}

// operations reads the operations of a transaction.
func (c *call) operations() ([]operationForm, error) {
	in := json.NewDecoder(strings.NewReader(c.params.get("Operations")))
	in.DisallowUnknownFields()
	var forms []operationForm
	if err := in.Decode(&forms); err != nil || in.More() || len(forms) == 0 || len(forms) > fsm.MaxParts {
		return nil, errOperations
	}
	return forms, nil
}

// part makes the call of one operation.
func (c *call) part(f operationForm, p *api.Part) (*call, operation, error) {
	if !strings.HasPrefix(f.Path, "/") {
		return nil, nil, objects.ErrParameter.With("path must begin with a slash, and names what is below the service")
	}
	t, at, err := route("/v1/Services/" + url.PathEscape(c.service) + f.Path)
	if err != nil {
		return nil, nil, err
	}
	switch at {
	case endpoints.collection, endpoints.object, endpoints.items, endpoints.item, endpoints.messages:
	default:
		return nil, nil, objects.ErrParameter.With("A transaction writes documents, lists, maps, streams, their items and messages; %s is none of them", f.Path)
	}
	if f.Method == http.MethodGet {
		return nil, nil, objects.ErrMethod
	}
	do, err := at.operation(f.Method)
	if err != nil {
		return nil, nil, err
	}
	form := url.Values{}
	for name, value := range f.Params {
		text, err := parameter(value)
		if err != nil {
			return nil, nil, objects.ErrParameter.With("%s is not a parameter", name)
		}
		form.Set(name, text)
	}
	part := &call{target: t, api: c.api, caller: c.caller, encoder: c.encoder, out: c.out, params: params(form.Encode()), ifMatch: f.IfMatch}
	part.caller.Part = p
	part.caller.Key, part.caller.KeepData = "", false // they are the transaction's
	return part, do, nil
}

// parameter returns a parameter as a form has it: text as it is, all else as JSON.
func parameter(value json.RawMessage) (string, error) {
	if !bytes.HasPrefix(value, []byte(`"`)) {
		return string(value), nil
	}
	var text string
	err := json.Unmarshal(value, &text)
	return text, err
}
