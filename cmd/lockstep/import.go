package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/migrate"
)

// keptHelp says what an import keeps.
const keptHelp = `Records come as they are there: with their SIDs, names, revisions, indexes (and the gaps
between them), dates, expiries, creators and permissions. Webhooks are told nothing of
it, rate limits do not apply, and what is there already in the same form stays as it
is: to import twice is like importing once. It needs the account's auth token.`

func newImport() *cobra.Command {
	var t target
	var f foreign
	var dryRun bool
	var told reporting
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Bring services, objects, items and permissions into the cluster",
		Long: `Bring what lockstep export wrote into the cluster, FILE, which is - for standard input;
or, with --from, what is in another installation of the same API, Twilio's or another
cluster's.

` + keptHelp + `

A file is read to its end first, and nothing is done if it is damaged or cut off; what
comes by standard input is brought as it arrives. The default service takes over the SID
of the file's if it is not in use; otherwise its objects come into it, and the report
says so. At the end stands what is not here as it is there; the exit code is 1 then.
--dry-run only compares, and needs no state.

` + foreignHelp + ` When everything
was copied, the same command only compares: lockstep mirror copies what has changed
since, and what is removed.

` + targetHelp,
		Example: `  lockstep import sync.ndjson --dry-run
  lockstep import sync.ndjson
  gunzip < orders.ndjson.gz | lockstep import -
  lockstep import --from https://sync.twilio.com --account AC00000000000000000000000000000001 --service default --dry-run`,
		Args: cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			if (f.from == "") == (len(args) == 0) {
				return usage{errors.New("say what to bring: FILE, or --from URL")}
			}
			a, err := t.access(cmd.Flags())
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return importFrom(cmd, &f, &a, &told, dryRun)
			}
			to, end := told.target(cmd, &a, dryRun)
			return end(importFile(cmd, args[0], to, f.services))
		}),
	}
	t.flags(cmd)
	f.flags(cmd)
	servicesFlag(cmd, &f.services)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	told.flags(cmd)
	return cmd
}

// importFile brings what is in a file, after it was read once, or on standard input.
func importFile(cmd *cobra.Command, name string, to *migrate.Target, services []string) error {
	if name == aPipe {
		return migrate.FromFile(cmd.Context(), cmd.InOrStdin(), to, services)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	defer f.Close() // it was only read
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		if err := migrate.Check(f); err != nil {
			return fmt.Errorf("%s: %w; nothing was done", name, err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the export: %w", err)
		}
	}
	return migrate.FromFile(cmd.Context(), f, to, services)
}

// reporting is how a command tells what it has brought.
type reporting struct {
	json bool
}

func (r *reporting) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.json, "json", false, "print the report as JSON: done, found, differences[], more_differences")
}

// target returns the cluster that records are brought to, and what ends it: it prints
// the report and returns the command's error.
func (r *reporting) target(cmd *cobra.Command, a *access, dryRun bool) (*migrate.Target, func(error) error) {
	report := &migrate.Report{}
	what := "importing"
	if dryRun {
		what = "comparing"
	}
	shown := newCounter(cmd.ErrOrStderr(), what)
	report.Progress = func(n int) { _ = shown.Add(n) } // what cannot be shown is not
	to := &migrate.Target{Operator: a.operator(), REST: a.rest, Report: report, Compare: dryRun}
	return to, func(err error) error {
		if ended := shown.Finish(); err == nil {
			err = ended
		}
		if err != nil {
			return err
		}
		return r.print(cmd.OutOrStdout(), to.Report, dryRun)
	}
}

// errDiffers ends a command whose report has differences.
var errDiffers = errors.New("not everything is here as it is there")

func (r *reporting) print(out io.Writer, report *migrate.Report, dryRun bool) error {
	counts, found := report.Counts(), report.Found()
	differences, untold := report.Differences()
	if r.json {
		err := printJSON(out, struct {
			Done        migrate.Counts `json:"done"`
			Found       migrate.Found  `json:"found"`
			Differences []string       `json:"differences"`
			More        int            `json:"more_differences"`
		}{counts, found, differences, untold})
		if err == nil && !dryRun && len(differences) > 0 {
			err = errDiffers
		}
		return err
	}
	if dryRun {
		fmt.Fprintf(out, "compared %s\n", countsText(counts))
		fmt.Fprintf(out, "not here: %d; here in another form: %d; with other items: %d; with a greater revision: %d; would be refused: %d; only here: %d\n", found.Missing, found.Other, found.Extra, found.Ahead, found.Refused, found.OnlyHere)
		fmt.Fprintln(out, "nothing was changed")
	} else {
		fmt.Fprintf(out, "here are %s\n", countsText(counts))
	}
	for _, d := range differences {
		if !dryRun || len(differences) <= maxShown {
			fmt.Fprintln(out, "differs:", d)
		}
	}
	if untold > 0 {
		fmt.Fprintf(out, "and %d more\n", untold)
	}
	if !dryRun && len(differences) > 0 {
		return errDiffers
	}
	return nil
}

// maxShown is how many differences a comparison lists, which may be everything.
const maxShown = 20
