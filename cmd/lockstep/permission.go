package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/client"
)

const objectHelp = `OBJECT is KIND/NAME or SERVICE/KIND/NAME, where KIND is doc, list, map or stream and
NAME a unique name or SID; or a SID alone.`

func newPermissions() *cobra.Command {
	c := group("perm", "Permissions: what each identity may do with an object of a service with --acl", newPermissionList(), newPermissionGet(), newPermissionSet(), newPermissionRemove())
	c.Aliases = []string{"permission", "permissions"}
	return c
}

// permission is what is read of one.
type permission struct {
	Identity string `json:"identity"`
	Read     bool   `json:"read"`
	Write    bool   `json:"write"`
	Manage   bool   `json:"manage"`
}

func newPermissionTable(cmd *cobra.Command) *rows {
	return newTable(cmd.OutOrStdout(), "IDENTITY", "READ", "WRITE", "MANAGE")
}

func (p permission) addTo(t *rows) {
	t.add(p.Identity, strconv.FormatBool(p.Read), strconv.FormatBool(p.Write), strconv.FormatBool(p.Manage))
}

// openPermissions returns the REST API, and the path of the permissions of an object.
func openPermissions(cmd *cobra.Command, p *place, object string) (*client.Client, []string, error) {
	named, k, name, err := parseObject(object)
	if err != nil {
		return nil, nil, err
	}
	if k == streams {
		return nil, nil, usage{errors.New("streams have no permissions: every client of the service may use them")}
	}
	if named != "" {
		p.service = named
	}
	c, service, err := p.open(cmd)
	return c, []string{"Services", service, k.collection, name, "Permissions"}, err
}

func newPermissionList() *cobra.Command {
	var p place
	var reply reply
	cmd := &cobra.Command{
		Use:     "list OBJECT",
		Short:   "List who has which rights",
		Long:    "List who has which rights.\n\n" + objectHelp,
		Example: "  lockstep perm list map/scores\n  lockstep perm list default/doc/config --json",
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, path, err := openPermissions(cmd, &p, args[0])
			if err != nil {
				return err
			}
			all := []json.RawMessage{}
			table := newPermissionTable(cmd)
			for raw, err := range c.All(cmd.Context(), client.Path(path...), nil) {
				if err != nil {
					return err
				}
				var r permission
				if err := decode(raw, &r); err != nil {
					return err
				}
				all = append(all, raw)
				r.addTo(table)
			}
			if reply.json {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return table.print()
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeObject(documents, lists, maps)
	reply.flags(cmd.Flags())
	return cmd
}

// printPermission shows one.
func printPermission(cmd *cobra.Command, raw json.RawMessage, reply reply) error {
	if reply.json {
		return printJSON(cmd.OutOrStdout(), raw)
	}
	var r permission
	if err := decode(raw, &r); err != nil {
		return err
	}
	table := newPermissionTable(cmd)
	r.addTo(table)
	return table.print()
}

func newPermissionGet() *cobra.Command {
	var p place
	var reply reply
	cmd := &cobra.Command{
		Use:     "get OBJECT IDENTITY",
		Short:   "Show the rights of an identity",
		Long:    "Show the rights of an identity.\n\n" + objectHelp,
		Example: "  lockstep perm get map/scores alice",
		Args:    cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, path, err := openPermissions(cmd, &p, args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), client.Path(append(path, args[1])...), &raw); err != nil {
				return err
			}
			return printPermission(cmd, raw, reply)
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeObject(documents, lists, maps)
	reply.flags(cmd.Flags())
	return cmd
}

func newPermissionSet() *cobra.Command {
	var p place
	var rights permission
	var reply reply
	cmd := &cobra.Command{
		Use:   "set OBJECT IDENTITY",
		Short: "Give an identity these rights, and no others",
		Long: `Give an identity these rights, and no others: --read to see the object and its items,
--write to change them, --manage to delete the object. They count in services with --acl.

` + objectHelp,
		Example: "  lockstep perm set map/scores alice --read --write\n  lockstep perm set map/scores bob --read",
		Args:    cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, path, err := openPermissions(cmd, &p, args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			err = c.Do(cmd.Context(), client.Request{Method: http.MethodPost, Path: client.Path(append(path, args[1])...), Form: url.Values{
				"Read": {strconv.FormatBool(rights.Read)}, "Write": {strconv.FormatBool(rights.Write)}, "Manage": {strconv.FormatBool(rights.Manage)},
			}}, &raw)
			if err != nil {
				return err
			}
			return printPermission(cmd, raw, reply)
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeObject(documents, lists, maps)
	f := cmd.Flags()
	f.BoolVar(&rights.Read, "read", false, "may see it")
	f.BoolVar(&rights.Write, "write", false, "may change it")
	f.BoolVar(&rights.Manage, "manage", false, "may delete it")
	reply.flags(f)
	return cmd
}

func newPermissionRemove() *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:     "remove OBJECT IDENTITY",
		Aliases: []string{"rm", "delete"},
		Short:   "Take all rights away from an identity",
		Long:    "Take all rights away from an identity.\n\n" + objectHelp,
		Example: "  lockstep perm remove map/scores alice",
		Args:    cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, path, err := openPermissions(cmd, &p, args[0])
			if err != nil {
				return err
			}
			if err := c.Do(cmd.Context(), client.Request{Method: http.MethodDelete, Path: client.Path(append(path, args[1])...)}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed the rights of %s\n", args[1])
			return nil
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeObject(documents, lists, maps)
	return cmd
}
