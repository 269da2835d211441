package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/client"
)

// kind is a kind of object as the command line and the API name it.
type kind struct {
	word       string // the command
	noun       string // in a sentence, and the realtime protocol's name of the type
	collection string // of the API
	prefix     string // of its SIDs
	about      string // what it is
}

var (
	documents = kind{"doc", "document", "Documents", "ET", "one JSON value"}
	lists     = kind{"list", "list", "Lists", "ES", "JSON items in order, each with an index"}
	maps      = kind{"map", "map", "Maps", "MP", "JSON items, each under its key"}
	streams   = kind{"stream", "stream", "Streams", "TO", "messages to all who subscribe, which are not kept"}

	kinds = []kind{documents, lists, maps, streams}
)

// names returns what a kind is called as a part of an OBJECT argument.
func (k kind) names() []string {
	return []string{k.word, k.noun, k.noun + "s", k.collection}
}

func (k kind) holdsData() bool  { return k == documents }
func (k kind) holdsItems() bool { return k == lists || k == maps }

// item is what the argument of an item is called.
func (k kind) item() string {
	if k == lists {
		return "INDEX"
	}
	return "KEY"
}

var sidForm = regexp.MustCompile(`^[A-Z]{2}[0-9a-f]{32}$`)

// parseObject reads an OBJECT argument: KIND/NAME, SERVICE/KIND/NAME, or a SID. No
// service is "".
func parseObject(arg string) (service string, k kind, name string, err error) {
	if sidForm.MatchString(arg) {
		for _, k := range kinds {
			if strings.HasPrefix(arg, k.prefix) {
				return "", k, arg, nil
			}
		}
	}
	parts := strings.SplitN(arg, "/", 2)
	if k, ok := kindOf(parts[0]); ok && len(parts) == 2 && parts[1] != "" {
		return "", k, parts[1], nil
	}
	parts = strings.SplitN(arg, "/", 3)
	if len(parts) == 3 && parts[0] != "" && parts[2] != "" {
		if k, ok := kindOf(parts[1]); ok {
			return parts[0], k, parts[2], nil
		}
	}
	return "", k, "", usage{fmt.Errorf("%q is no object: say KIND/NAME or SERVICE/KIND/NAME, where KIND is doc, list, map or stream, or a SID", arg)}
}

func kindOf(word string) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return slices.Contains(k.names(), word) })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// place is where objects are: a cluster and one of its services.
type place struct {
	target
	service string
}

func (p *place) flags(cmd *cobra.Command) {
	p.target.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&p.service, "service", "", "the service: its SID or name (default: the context's, or the one called default)")
	bind(f, "service", "LOCKSTEP_SERVICE_SID")
	if err := cmd.RegisterFlagCompletionFunc("service", p.completeServiceFlag); err != nil {
		panic(err) // there is no such flag
	}
}

// open returns the REST API and the SID, or unique name, of the service.
func (p *place) open(cmd *cobra.Command) (*client.Client, string, error) {
	a, err := p.access(cmd.Flags())
	if err != nil {
		return nil, "", err
	}
	c := a.rest()
	service, err := findService(cmd.Context(), c, p.serviceOr(a.Service))
	return c, service, err
}

// serviceOr returns the name of the service, as somebody gave it.
func (p *place) serviceOr(ofContext string) string {
	for _, name := range []string{p.service, ofContext} {
		if name != "" {
			return name
		}
	}
	return "default"
}

// service is what is read of a service.
type service struct {
	SID          string  `json:"sid"`
	UniqueName   *string `json:"unique_name"`
	FriendlyName *string `json:"friendly_name"`
	WebhookURL   *string `json:"webhook_url"`
	ACL          bool    `json:"acl_enabled"`
	FromREST     bool    `json:"webhooks_from_rest_enabled"`
	Reachability bool    `json:"reachability_webhooks_enabled"`
	Created      string  `json:"date_created"`
	Updated      string  `json:"date_updated"`
}

// named reports whether a service has this name.
func (s service) named(name string) bool {
	return s.UniqueName != nil && *s.UniqueName == name || s.FriendlyName != nil && *s.FriendlyName == name
}

// findService returns by what the API knows a service: a SID and default are as
// they are, other names are looked up among all services.
func findService(ctx context.Context, c *client.Client, name string) (string, error) {
	if name == "default" || sidForm.MatchString(name) {
		return name, nil
	}
	var found []string
	for raw, err := range c.All(ctx, client.Path("Services"), nil) {
		if err != nil {
			return "", err
		}
		var s service
		if err := decode(raw, &s); err != nil {
			return "", err
		}
		if s.named(name) {
			found = append(found, s.SID)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("service %q: %w; lockstep service list shows those that are there", name, errMissing)
	case 1:
		return found[0], nil
	}
	return "", errors.New("several services have the name " + name + "; take the SID of one: " + strings.Join(found, ", "))
}
