package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/client"
)

func newService() *cobra.Command {
	c := group("service", "Services: objects that belong together, with settings of their own", newServiceList(), newServiceCreate(), newServiceGet(), newServiceUpdate(), newServiceDelete())
	c.Aliases = []string{"services"}
	return c
}

// serviceSettings are the settings of a service that a command names.
type serviceSettings struct {
	name, webhook               string
	acl, fromREST, reachability bool
	debouncing                  bool
	window                      int
}

func (s *serviceSettings) flags(f *pflag.FlagSet) {
	f.StringVar(&s.name, "name", "", "friendly name, by which --service finds it, too")
	f.BoolVar(&s.acl, "acl", false, "clients need permissions (lockstep perm)")
	f.StringVar(&s.webhook, "webhook-url", "", "where changes by clients are sent; empty: nowhere")
	f.BoolVar(&s.fromREST, "webhooks-from-rest", false, "changes by REST are sent, too")
	f.BoolVar(&s.reachability, "reachability-webhooks", false, "send when clients connect and disconnect")
	f.BoolVar(&s.debouncing, "reachability-debouncing", false, "wait before a disconnect is sent, as the client may come back")
	f.IntVar(&s.window, "reachability-window", 5000, "for so many milliseconds, 1000 to 30000")
}

// form has the settings that were named.
func (s *serviceSettings) form(f *pflag.FlagSet) url.Values {
	form := url.Values{}
	for _, p := range []struct{ flag, parameter, value string }{
		{"name", "FriendlyName", s.name},
		{"acl", "AclEnabled", strconv.FormatBool(s.acl)},
		{"webhook-url", "WebhookUrl", s.webhook},
		{"webhooks-from-rest", "WebhooksFromRestEnabled", strconv.FormatBool(s.fromREST)},
		{"reachability-webhooks", "ReachabilityWebhooksEnabled", strconv.FormatBool(s.reachability)},
		{"reachability-debouncing", "ReachabilityDebouncingEnabled", strconv.FormatBool(s.debouncing)},
		{"reachability-window", "ReachabilityDebouncingWindow", strconv.Itoa(s.window)},
	} {
		if f.Changed(p.flag) {
			form.Set(p.parameter, p.value)
		}
	}
	return form
}

// openTarget returns the REST API of a target, for a command about services.
func openTarget(cmd *cobra.Command, t *target) (*client.Client, error) {
	a, err := t.access(cmd.Flags())
	if err != nil {
		return nil, err
	}
	return a.rest(), nil
}

func newServiceList() *cobra.Command {
	var t target
	var reply reply
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the services",
		Example: "  lockstep service list\n  lockstep service list --json",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			c, err := openTarget(cmd, &t)
			if err != nil {
				return err
			}
			all := []json.RawMessage{}
			table := newTable(cmd.OutOrStdout(), "SID", "UNIQUE NAME", "NAME", "ACL", "CREATED", "WEBHOOK")
			for raw, err := range c.All(cmd.Context(), client.Path("Services"), nil) {
				if err != nil {
					return err
				}
				var s service
				if err := decode(raw, &s); err != nil {
					return err
				}
				all = append(all, raw)
				table.add(s.SID, orNone(s.UniqueName), orNone(s.FriendlyName), strconv.FormatBool(s.ACL), s.Created, orNone(s.WebhookURL))
			}
			if reply.json {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return table.print()
		}),
	}
	t.flags(cmd)
	reply.flags(cmd.Flags())
	return cmd
}

func newServiceCreate() *cobra.Command {
	var t target
	var s serviceSettings
	var reply reply
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Create a service",
		Example: "  lockstep service create --name shop --acl\n  lockstep service create --name audit --webhook-url https://example.com/hook",
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			c, err := openTarget(cmd, &t)
			if err != nil {
				return err
			}
			return write(cmd, c, client.Request{Path: client.Path("Services"), Form: s.form(cmd.Flags())}, "created service", reply)
		}),
	}
	t.flags(cmd)
	s.flags(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

// openService returns the REST API of a target, and the service of a name there.
func openService(cmd *cobra.Command, t *target, name string) (c *client.Client, ref string, err error) {
	if c, err = openTarget(cmd, t); err != nil {
		return nil, "", err
	}
	ref, err = findService(cmd.Context(), c, name)
	return c, ref, err
}

func newServiceGet() *cobra.Command {
	var t target
	var reply reply
	cmd := &cobra.Command{
		Use:     "get SERVICE",
		Short:   "Show a service",
		Example: "  lockstep service get default\n  lockstep service get orders --json",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, ref, err := openService(cmd, &t, args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), client.Path("Services", ref), &raw); err != nil {
				return err
			}
			if reply.json {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var s service
			if err := decode(raw, &s); err != nil {
				return err
			}
			table := newTable(cmd.OutOrStdout())
			table.named("sid", s.SID)
			table.named("unique name", orNone(s.UniqueName))
			table.named("name", orNone(s.FriendlyName))
			table.named("permissions", map[bool]string{true: "needed (acl)", false: "not needed"}[s.ACL])
			table.named("webhook", orNone(s.WebhookURL))
			table.named("webhooks from REST", strconv.FormatBool(s.FromREST))
			table.named("webhooks of clients", strconv.FormatBool(s.Reachability))
			table.named("created", s.Created)
			table.named("updated", s.Updated)
			return table.print()
		}),
	}
	t.flags(cmd)
	cmd.ValidArgsFunction = t.completeServices
	reply.flags(cmd.Flags())
	return cmd
}

func newServiceUpdate() *cobra.Command {
	var t target
	var s serviceSettings
	var reply reply
	cmd := &cobra.Command{
		Use:     "update SERVICE",
		Short:   "Change settings of a service",
		Example: "  lockstep service update orders --acl=false\n  lockstep service update orders --webhook-url ''",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			form := s.form(cmd.Flags())
			if len(form) == 0 {
				return usage{errors.New("say which setting is to change; lockstep service update --help lists them")}
			}
			c, ref, err := openService(cmd, &t, args[0])
			if err != nil {
				return err
			}
			return write(cmd, c, client.Request{Path: client.Path("Services", ref), Form: form}, "updated service", reply)
		}),
	}
	t.flags(cmd)
	cmd.ValidArgsFunction = t.completeServices
	s.flags(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

func newServiceDelete() *cobra.Command {
	var t target
	var yes bool
	cmd := &cobra.Command{
		Use:     "delete SERVICE",
		Short:   "Delete a service with all that is in it",
		Long:    "Delete a service with all its objects, and the webhooks that wait. Without --yes it only\nsays which one that is.",
		Example: "  lockstep service delete old\n  lockstep service delete old --yes",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, ref, err := openService(cmd, &t, args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if !yes {
				var s service
				if err := c.Get(cmd.Context(), client.Path("Services", ref), &s); err != nil {
					return err
				}
				fmt.Fprintf(out, "%s, %s, created %s.\nNothing was changed. To delete it with all its objects: lockstep service delete %s --yes\n", s.SID, orNone(s.FriendlyName), s.Created, args[0])
				return nil
			}
			if err := c.Do(cmd.Context(), client.Request{Method: http.MethodDelete, Path: client.Path("Services", ref)}, nil); err != nil {
				return err
			}
			fmt.Fprintf(out, "deleted service %s\n", args[0])
			return nil
		}),
	}
	t.flags(cmd)
	cmd.ValidArgsFunction = t.completeServices
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}
