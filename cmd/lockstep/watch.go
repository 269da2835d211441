package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/live"
	"lockstep/server/auth"
)

func newWatch() *cobra.Command {
	var p place
	var identity string
	var after uint64
	var count int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch OBJECT",
		Short: "Follow an object live: each change, or each message of a stream",
		Long: `Follow an object live: each change of a document, list or map, once and in order, or
each message of a stream. When the connection or the node dies, it goes on at another
URL behind the last event that was told; messages of a stream that were published
meanwhile are not kept by anybody. It ends when the object is deleted, or with Ctrl-C.

` + objectHelp + `

It is a realtime client like any other, with an access token that it signs with the API
key of the context, of lockstep dev, or LOCKSTEP_API_KEY and LOCKSTEP_API_SECRET, and as
the identity of --as; in a service with --acl that one needs the right to read.

With --json each event is one line: type, id, key or index, revision, data, at. What
happens to the connection is told on standard error.`,
		Example: `  lockstep watch map/scores
  lockstep watch orders/list/journey --json --after 0
  lockstep watch stream/moves --count 10`,
		Args: cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			named, k, name, err := parseObject(args[0])
			if err != nil {
				return err
			}
			if named != "" {
				p.service = named
			}
			a, err := p.access(cmd.Flags())
			if err != nil {
				return err
			}
			service, err := realtimeService(cmd.Context(), &a, p.serviceOr(a.Service))
			if err != nil {
				return err
			}
			spec, err := a.tokens(identity, service)
			if err != nil {
				return err
			}
			v := &viewer{out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr(), kind: k, name: name, json: asJSON, left: count}
			if cmd.Flags().Changed("after") {
				v.after = &after
			}
			v.colours = inColour(v.out)
			config := live.Config{
				URLs: a.URLs, TLS: a.tls(), Token: func() (string, error) { return auth.Mint(spec, time.Now()) },
				Collection: k.collection, Type: k.noun, Name: name, Notices: v.notices(),
			}
			config.After = v.after
			err = live.Watch(cmd.Context(), config, v.opened, v.event)
			if errors.Is(err, errSeen) {
				return nil
			}
			return err
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeObject(kinds...)
	f := cmd.Flags()
	f.StringVar(&identity, "as", "lockstep-watch", "identity of the client")
	f.Uint64Var(&after, "after", 0, "begin behind this event, as far as the history reaches back (default: with what happens from now on)")
	f.IntVar(&count, "count", 0, "end after so many events; 0: do not")
	f.BoolVar(&asJSON, "json", false, "print each event as one line of JSON")
	return cmd
}

// realtimeService returns the SID of a service, or default, which a token names it
// by.
func realtimeService(ctx context.Context, a *access, name string) (string, error) {
	if name == "default" || sidForm.MatchString(name) {
		return name, nil
	}
	return findService(ctx, a.rest(), name)
}

// viewer shows an object's events.
type viewer struct {
	out, notes io.Writer
	kind       kind
	name       string
	json       bool
	colours    bool
	left       int     // events until the end; 0: no end
	after      *uint64 // the event to begin behind; nil: the object's last one
	lost       bool
}

// errSeen ends the watch when it has shown what was asked for.
var errSeen = errors.New("as many events as were asked for")

func (v *viewer) note(format string, args ...any) {
	fmt.Fprintf(v.notes, "lockstep: "+format+"\n", args...)
}

func (v *viewer) notices() live.Notices {
	return live.Notices{
		Live: func(url string) {
			if v.lost {
				v.note("goes on at %s", url)
			}
			v.lost = false
		},
		Lost: func(err error) {
			if !v.lost {
				v.note("the connection is lost, looking for another node: %s", oneLine(err))
			}
			v.lost = true
		},
		Gap: func(_ string, o live.Object) {
			v.note("what happened meanwhile is no longer in the history: events before %d are missing", o.LastEventID)
		},
	}
}

func (v *viewer) opened(o live.Object) error {
	last := o.LastEventID
	if v.after != nil {
		last = *v.after
	}
	v.note("watching %s %s (%s) behind event %d; Ctrl-C ends it", v.kind.noun, v.name, o.SID, last)
	if v.json || o.Data == nil || v.after != nil {
		return nil
	}
	return v.line("", "is", "", o.Data)
}

func (v *viewer) event(e live.Event) error {
	if err := v.show(e); err != nil {
		return err
	}
	if v.left--; v.left == 0 {
		return errSeen
	}
	return nil
}

func (v *viewer) show(e live.Event) error {
	if v.json {
		b, err := marshal(e)
		if err == nil {
			_, err = v.out.Write(b)
		}
		return err
	}
	what := strings.ReplaceAll(strings.TrimPrefix(e.Type, v.kind.noun+"_"), "_", " ")
	which := ""
	switch {
	case e.Key != nil:
		which = *e.Key
	case e.Index != nil:
		which = fmt.Sprint(*e.Index)
	}
	return v.line(e.At, what, which, e.Data)
}

// marshal returns JSON on one line, with < and > as they are.
func marshal(value any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	return []byte(b.String()), err
}

// line shows one event to a person.
func (v *viewer) line(at, what, which string, data json.RawMessage) error {
	when := time.Now()
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		when = t.Local()
	}
	colour := text.FgGreen
	switch {
	case strings.HasSuffix(what, "removed"):
		colour = text.FgRed
	case strings.HasSuffix(what, "updated"):
		colour = text.FgYellow
	}
	parts := []string{when.Format(time.TimeOnly), what}
	if v.colours {
		parts = []string{text.Faint.Sprint(parts[0]), colour.Sprint(what)}
	}
	if which != "" {
		parts = append(parts, which)
	}
	if data != nil {
		parts = append(parts, compact(data))
	}
	_, err := fmt.Fprintln(v.out, strings.Join(parts, "  "))
	return err
}
