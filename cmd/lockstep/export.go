package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/migrate"
	"lockstep/server/backup"
)

func newExport() *cobra.Command {
	var t target
	var services []string
	var replace bool
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write services, objects, items and permissions as lines of JSON",
		Long: `Write services, objects, items and permissions as lines of JSON, which lockstep import
reads: a header, one line a service, object, item or permission, in the order in which
the API lists them, and a last line with the number of records and the SHA-256 of all
before it. A service comes before its objects, an object before its items and its
permissions. A line has the members that the REST API has, and "kind". Two exports of
the same state differ in their headers only.

Without FILE, or with -, it is standard output. A file appears when it is whole.

It reads the cluster as a client does, a page at a time, with an API key or the
account's token: what changes meanwhile is there as it was when it was read. A backup
is of one moment, and has the account's secrets; an export has none.`,
		Example: `  lockstep export sync.ndjson
  lockstep export --service orders - | gzip > orders.ndjson.gz`,
		Args: cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			a, err := t.access(cmd.Flags())
			if err != nil {
				return err
			}
			report := &migrate.Report{}
			shown := newCounter(cmd.ErrOrStderr(), "exporting")
			report.Progress = func(n int) { _ = shown.Add(n) } // what cannot be shown is not
			write := func(w io.Writer) error {
				return migrate.ToFile(cmd.Context(), w, &migrate.Source{Client: a.rest(), Name: strings.Join(a.URLs, ",")}, services, report)
			}
			file, out := aPipe, cmd.ErrOrStderr()
			if len(args) == 1 {
				file = args[0]
			}
			if file == aPipe {
				err = write(cmd.OutOrStdout())
			} else {
				out = cmd.OutOrStdout()
				err = backup.Create(file, replace, write)
				if errors.Is(err, backup.ErrExists) {
					err = fmt.Errorf("%w: --replace puts the new export in its place", err)
				}
			}
			if ended := shown.Finish(); err == nil {
				err = ended
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "exported %s\n", countsText(report.Counts()))
			return nil
		}),
	}
	t.flags(cmd)
	servicesFlag(cmd, &services)
	cmd.Flags().BoolVar(&replace, "replace", false, "put the export in the place of a file that exists")
	return cmd
}

func servicesFlag(cmd *cobra.Command, services *[]string) {
	cmd.Flags().StringSliceVar(services, "service", nil, "only this service, by its SID or name; several times for several")
}

// countsText says how many records there were.
func countsText(c migrate.Counts) string {
	text := fmt.Sprintf("%d services, %d objects, %d items, %d permissions", c.Services, c.Objects, c.Items, c.Permissions)
	if c.Removed > 0 {
		text += fmt.Sprintf("; removed %d", c.Removed)
	}
	return text
}
