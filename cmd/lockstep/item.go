package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/client"
)

func newItems(k kind) *cobra.Command {
	var p place
	var l listing
	var order, from string
	cmd := &cobra.Command{
		Use:   "items NAME",
		Short: fmt.Sprintf("Show the items of a %s", k.noun),
		Example: fmt.Sprintf("  lockstep %[1]s items %[2]s\n  lockstep %[1]s items %[2]s --order desc --limit 10\n  lockstep %[1]s items %[2]s --from %[3]s --json",
			k.word, sample(k), sampleItem(k)),
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			query := url.Values{"Order": {order}}
			if from != "" {
				query.Set("From", from)
			}
			entries := c.All(cmd.Context(), client.Path("Services", service, k.collection, args[0], "Items"), query)
			return l.print(cmd.OutOrStdout(), entries, []string{k.item(), "REVISION", "UPDATED", "EXPIRES", "DATA"}, func(r resource) []string {
				return []string{r.name(), r.Revision, r.Updated, orNone(r.Expires), compact(r.Data)}
			})
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(k)
	l.flags(cmd.Flags())
	cmd.Flags().StringVar(&order, "order", "asc", "asc or desc")
	cmd.Flags().StringVar(&from, "from", "", fmt.Sprintf("%s of the first one", k.item()))
	return cmd
}

func newPush() *cobra.Command {
	var p place
	var change change
	var reply reply
	cmd := &cobra.Command{
		Use:   "push NAME DATA...",
		Short: "Append items to a list",
		Long:  "Append items to a list, one for each DATA, in this order.\n\n" + dataHelp,
		Example: `  lockstep list push journey '{"lat": 52.5, "lon": 13.4}'
  lockstep list push journey '"first"' '"second"' --ttl 1h`,
		Args: cobra.MinimumNArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			form := url.Values{}
			if err := change.form(form, "ItemTtl"); err != nil {
				return err
			}
			var all []string
			for _, arg := range args[1:] {
				data, err := readData(cmd.InOrStdin(), arg)
				if err != nil {
					return err
				}
				all = append(all, data)
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			for _, data := range all {
				r := client.Request{Path: client.Path("Services", service, "Lists", args[0], "Items"), Form: with(form, "Data", data)}
				if err := write(cmd, c, r, "pushed item", reply); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(lists)
	change.ttlFlag(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

func newItemSet(k kind) *cobra.Command {
	var p place
	var change change
	var reply reply
	cmd := &cobra.Command{
		Use:   fmt.Sprintf("set NAME %s DATA", k.item()),
		Short: fmt.Sprintf("Set the data of an item of a %s", k.noun),
		Long: fmt.Sprintf(`Set the data of an item of a %s, which must be there. With --if-match only if that is
its revision still.

%s`, k.noun, dataHelp),
		Example: fmt.Sprintf("  lockstep %[1]s set %[2]s %[3]s '{\"points\": 4}'\n  echo '{\"points\": 5}' | lockstep %[1]s set %[2]s %[3]s -", k.word, sample(k), sampleItem(k)),
		Args:    cobra.ExactArgs(3),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			data, err := readData(cmd.InOrStdin(), args[2])
			if err != nil {
				return err
			}
			form := url.Values{"Data": {data}}
			if err := change.form(form, "ItemTtl"); err != nil {
				return err
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			update := client.Request{Path: client.Path("Services", service, k.collection, args[0], "Items", args[1]), Form: form, IfMatch: change.ifMatch}
			if k == lists || change.ifMatch != "" {
				return write(cmd, c, update, "updated item", reply)
			}
			create := client.Request{Path: client.Path("Services", service, k.collection, args[0], "Items"), Form: with(form, "Key", args[1])}
			raw, created, err := upsert(cmd, c, update, create)
			if err != nil {
				return err
			}
			return reply.tell(cmd.OutOrStdout(), raw, verb(created)+" item")
		}),
	}
	if k == maps {
		cmd.Short = "Set the data of an item of a map, and create it if it is not there"
		cmd.Long = `Set the data of an item of a map, and create it if it is not there; the map must be.
With --if-match it is only changed, and only if that is its revision still.

` + dataHelp
		cmd.Example += "\n  lockstep map set scores bob @bob.json --ttl 1h"
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeItems(k)
	change.ttlFlag(cmd.Flags())
	change.matchFlag(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

func newItemRemove(k kind) *cobra.Command {
	var p place
	var change change
	cmd := &cobra.Command{
		Use:     fmt.Sprintf("remove NAME %s", k.item()),
		Aliases: []string{"rm"},
		Short:   fmt.Sprintf("Remove an item of a %s", k.noun),
		Example: fmt.Sprintf("  lockstep %s remove %s %s", k.word, sample(k), map[kind]string{lists: "1", maps: "bob"}[k]),
		Args:    cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			r := client.Request{
				Method: http.MethodDelete, Path: client.Path("Services", service, k.collection, args[0], "Items", args[1]), IfMatch: change.ifMatch,
			}
			if err := c.Do(cmd.Context(), r, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed item %s\n", args[1])
			return nil
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeItems(k)
	change.matchFlag(cmd.Flags())
	return cmd
}
