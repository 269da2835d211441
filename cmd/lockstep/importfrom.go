package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"lockstep/cmd/lockstep/internal/client"
	"lockstep/cmd/lockstep/internal/migrate"
	"lockstep/server/origin"
)

// foreign is another installation of the API, as flags name it.
type foreign struct {
	from, account, key string
	secretFile         string
	ca                 string
	requests           int
	state              string
	services           []string
}

// foreignHelp says how the other installation lets the command in.
const foreignHelp = `--from is the origin of the other installation: https://sync.twilio.com, or a node of
another cluster. Give its --account, and its auth token in TWILIO_AUTH_TOKEN, or --key,
an API key, and its secret in TWILIO_API_SECRET; or the one or the other by --secret-file
(- reads standard input), or at the prompt. Its pages are read within its rate limits:
what it refuses for now is asked for again when it says (Retry-After), what fails for
five minutes on end ends the command, which goes on where it was when it is called
again.

What was copied stands in the file of --state, which may be removed when all is done: the
default is lockstep-import-ACCOUNT.state, here. It has SIDs of objects and no data.`

func (f *foreign) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "origin of the installation to copy from, as https://sync.twilio.com")
	fs.StringVar(&f.account, "account", "", "SID of its account")
	fs.StringVar(&f.key, "key", "", "SID of an API key of it")
	fs.StringVar(&f.secretFile, "secret-file", "", "file with its auth token, or with the secret of --key; - reads standard input")
	fs.StringVar(&f.ca, "from-ca", "", "file with authorities, in PEM, that are believed there besides the machine's")
	fs.IntVar(&f.requests, "requests", 4, "how many requests may be under way there")
	fs.StringVar(&f.state, "state", "", "file that remembers what was copied (default lockstep-import-ACCOUNT.state)")
}

// source returns the installation.
func (f *foreign) source(cmd *cobra.Command) (*migrate.Source, error) {
	user, secret, what := f.account, os.Getenv("TWILIO_AUTH_TOKEN"), "auth token of "+f.account
	if f.key != "" {
		user, secret, what = f.key, os.Getenv("TWILIO_API_SECRET"), "secret of "+f.key
	}
	switch {
	case user == "":
		return nil, usage{errors.New("say how to be let in there: --account SID, or --key SID")}
	case f.requests < 1 || f.requests > 64:
		return nil, usage{errors.New("--requests is from 1 to 64")}
	}
	at := origin.Complete(f.from)
	if err := origin.Validate(at); err != nil {
		return nil, usage{err}
	}
	trusted, err := trusting(f.ca)
	if err != nil {
		return nil, err
	}
	if secret == "" {
		if secret, err = f.secret(cmd, what); err != nil {
			return nil, err
		}
	}
	return &migrate.Source{Name: at, Client: &client.Client{URLs: []string{at}, User: user, Password: secret, HTTP: trusted}}, nil
}

// secret reads the secret where the command line says, or asks for it.
func (f *foreign) secret(cmd *cobra.Command, what string) (secret string, err error) {
	in, isFile := cmd.InOrStdin().(*os.File)
	switch {
	case f.secretFile != "":
		secret, err = readSecret(cmd.InOrStdin(), f.secretFile)
	case isFile && term.IsTerminal(int(in.Fd())):
		secret, err = prompt(in, cmd.ErrOrStderr(), what)
	}
	if err == nil && secret == "" {
		err = usage{fmt.Errorf("the %s is missing: put it into TWILIO_AUTH_TOKEN or TWILIO_API_SECRET, or into --secret-file", what)}
	}
	return secret, err
}

// copier returns what copies from the installation, with the state of the last time.
func (f *foreign) copier(cmd *cobra.Command, a *access, to *migrate.Target, dryRun bool) (*migrate.Copier, error) {
	from, err := f.source(cmd)
	if err != nil {
		return nil, err
	}
	status, err := to.Operator.Status(cmd.Context())
	if err != nil {
		return nil, fmt.Errorf("ask %s who it is: %w", a.name, err)
	}
	owner, file := cmp.Or(f.account, f.key), ""
	if !dryRun {
		file = cmp.Or(f.state, "lockstep-import-"+owner+".state")
	}
	state, err := migrate.OpenState(file, from.Name, owner, status.ClusterID)
	if err != nil {
		return nil, err
	}
	return &migrate.Copier{From: from, To: to, State: state, Only: f.services, Requests: f.requests}, nil
}

// importFrom copies an installation, or compares it when that is done already.
func importFrom(cmd *cobra.Command, f *foreign, a *access, told *reporting, dryRun bool) error {
	to, end := told.target(cmd, a, dryRun)
	c, err := f.copier(cmd, a, to, dryRun)
	if err != nil {
		return err
	}
	defer c.State.Close() // each line is written when it is added
	switch {
	case dryRun:
		err = c.Verify(cmd.Context())
	case c.State.Finished():
		fmt.Fprintln(cmd.ErrOrStderr(), "lockstep: everything was copied before: comparing; lockstep mirror copies what has changed since")
		to.Compare = true
		err = c.Verify(cmd.Context())
	default:
		err = c.Import(cmd.Context())
	}
	return end(err)
}

func newMirror() *cobra.Command {
	var t target
	var f foreign
	var told reporting
	var hooks hooks
	var every time.Duration
	var untilSwitch, remove bool
	cmd := &cobra.Command{
		Use:   "mirror --from URL",
		Short: "Copy another installation, and follow it until clients are switched over",
		Long: `Copy another installation as lockstep import --from does, and then follow it: every
--every it looks which objects have another revision, and copies those; what was copied
and is removed there is removed here, items, permissions and whole objects. With --listen
it also takes the webhooks of the source, which say at once what has changed;
--webhook-url has the source send them there, and is taken back at the end. A service
that sends its webhooks elsewhere already is not taken from its receiver.

A service that was copied and is removed there stays here, and the report says so; so
does an object that the mirror did not make, in a service that it copies. --delete
removes both: such services at the next look, such objects with the comparison for the
switch. Services that the source never had are nobody's business.

Stop the writers at the source, then press Ctrl-C: the mirror copies what is left, brings
every record once more, and says whether it is safe to switch. With --until-switch it does
so by itself when a look has found nothing to copy. Exit code 1: something is not here as
it is there, or the source was still written to.

` + foreignHelp + `

` + targetHelp,
		Example: `  lockstep mirror --from https://sync.twilio.com --account AC00000000000000000000000000000001
  lockstep mirror --from https://sync.twilio.com --key SK00000000000000000000000000000002 --account AC00000000000000000000000000000001 --every 1m
  lockstep mirror --from http://10.9.0.1:8080 --account AC00000000000000000000000000000001 --until-switch`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.from == "":
				return usage{errors.New("say what to follow: --from URL")}
			case every < time.Second:
				return usage{errors.New("--every is at least 1s")}
			case hooks.url != "" && hooks.listen == "":
				return usage{errors.New("--webhook-url needs --listen, where the webhooks arrive")}
			}
			a, err := t.access(cmd.Flags())
			if err != nil {
				return err
			}
			to, end := told.target(cmd, &a, false)
			c, err := f.copier(cmd, &a, to, false)
			if err != nil {
				return err
			}
			defer c.State.Close() // each line is written when it is added
			c.Delete = remove
			m := &migrate.Mirror{Copier: c, Every: every}
			return mirror(cmd, m, &hooks, untilSwitch, end)
		}),
	}
	t.flags(cmd)
	f.flags(cmd)
	servicesFlag(cmd, &f.services)
	fl := cmd.Flags()
	fl.DurationVar(&every, "every", 30*time.Second, "how often it looks what has changed")
	fl.StringVar(&hooks.listen, "listen", "", "HOST:PORT where it takes the source's webhooks, by HTTP")
	fl.StringVar(&hooks.url, "webhook-url", "", "URL by which the source reaches --listen: has the source send its webhooks there, until the end")
	fl.BoolVar(&remove, "delete", false, "remove services, too, that are gone there, and objects that only this cluster has")
	fl.BoolVar(&untilSwitch, "until-switch", false, "end when a look has found nothing to copy, instead of with Ctrl-C")
	told.flags(cmd)
	return cmd
}

// mirror follows a source, and ends with a comparison, whose report end prints.
func mirror(cmd *cobra.Command, m *migrate.Mirror, hooks *hooks, untilSwitch bool, end func(error) error) (err error) {
	note := func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "lockstep: "+format+"\n", args...)
	}
	ctx := cmd.Context()
	stop, err := hooks.start(ctx, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	m.Followed = func(changed int) { note("%d objects have changed, and were copied", changed) }
	note("copying, and then following %s; stop its writers and press Ctrl-C to switch", m.From.Name)
	if err := m.Follow(ctx, untilSwitch); err != nil {
		return end(err)
	}
	if !m.State.Finished() {
		return end(errors.New("it was ended before everything was copied; the same command goes on"))
	}
	note("comparing for the switch")
	// The first Ctrl-C has ended the following; the next one ends this.
	ctx, done := interrupted(context.WithoutCancel(ctx))
	defer done()
	if err := end(m.Switch(ctx, &migrate.Report{Progress: m.To.Report.Progress})); err != nil {
		return fmt.Errorf("it is not safe to switch: %w", err)
	}
	note("everything is here as it is there: it is safe to switch")
	return nil
}
