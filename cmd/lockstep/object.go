package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lockstep/cmd/lockstep/internal/client"
)

// newObjects makes the commands about one kind of object.
func newObjects(k kind) *cobra.Command {
	commands := []*cobra.Command{newObjectList(k), newObjectCreate(k), newObjectGet(k), newObjectUpdate(k), newObjectDelete(k)}
	switch k {
	case documents:
		commands = append(commands, newDocumentSet())
	case streams:
		commands = append(commands, newPublish())
	default:
		commands = append(commands, newItems(k), newItemSet(k), newItemRemove(k))
	}
	if k == lists {
		commands = append(commands, newPush())
	}
	c := group(k.word, strings.ToUpper(k.collection[:1])+k.collection[1:]+": "+k.about, commands...)
	c.Aliases = k.names()[1:3]
	return c
}

// resource is what is read of an object or an item.
type resource struct {
	SID        string          `json:"sid"`
	UniqueName *string         `json:"unique_name"`
	Index      *int64          `json:"index"`
	Key        *string         `json:"key"`
	Revision   string          `json:"revision"`
	Data       json.RawMessage `json:"data"`
	Created    string          `json:"date_created"`
	Updated    string          `json:"date_updated"`
	Expires    *string         `json:"date_expires"`
	CreatedBy  string          `json:"created_by"`
}

// name is by what a person knows it.
func (r resource) name() string {
	switch {
	case r.Key != nil:
		return *r.Key
	case r.Index != nil:
		return fmt.Sprint(*r.Index)
	case r.UniqueName != nil:
		return *r.UniqueName
	}
	return r.SID
}

func orNone(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func decode(raw json.RawMessage, into any) error {
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// reply is how an answer is shown.
type reply struct {
	json bool // as it came
	data bool // the object's or item's data alone
}

const jsonHelp = "print JSON, as the REST API has it"

func (r *reply) flags(f *pflag.FlagSet) { f.BoolVar(&r.json, "json", false, jsonHelp) }

// change is what a write may say besides its data.
type change struct {
	ttl     string
	ifMatch string
}

func (c *change) ttlFlag(f *pflag.FlagSet) { f.StringVar(&c.ttl, "ttl", "", ttlHelp) }

// matchFlag adds --if-match, which --revision is another name of.
func (c *change) matchFlag(f *pflag.FlagSet) {
	f.StringVar(&c.ifMatch, "if-match", "", "only if this is the revision still; --revision is the same")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "revision" {
			name = "if-match"
		}
		return pflag.NormalizedName(name)
	})
}

// form adds what is said to a form, under the parameter's name for the TTL.
func (c *change) form(form url.Values, ttl string) error {
	if c.ttl == "" {
		return nil
	}
	s, err := seconds(c.ttl)
	if err == nil {
		form.Set(ttl, s)
	}
	return err
}

// ttlParameter is the name of an object's own TTL.
func (k kind) ttlParameter() string {
	if k.holdsItems() {
		return "CollectionTtl"
	}
	return "Ttl"
}

func newObjectList(k kind) *cobra.Command {
	var p place
	var l listing
	cmd := &cobra.Command{
		Use:     "list",
		Short:   fmt.Sprintf("List the %ss of a service", k.noun),
		Example: fmt.Sprintf("  lockstep %[1]s list\n  lockstep %[1]s list --service orders --json", k.word),
		Args:    cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			header := []string{"NAME", "SID", "REVISION", "UPDATED", "EXPIRES"}
			columns := func(r resource) []string {
				return []string{orNone(r.UniqueName), r.SID, r.Revision, r.Updated, orNone(r.Expires)}
			}
			if k == streams { // which have no revision
				header = []string{"NAME", "SID", "UPDATED", "EXPIRES"}
				columns = func(r resource) []string {
					return []string{orNone(r.UniqueName), r.SID, r.Updated, orNone(r.Expires)}
				}
			}
			return l.print(cmd.OutOrStdout(), c.All(cmd.Context(), client.Path("Services", service, k.collection), nil), header, columns)
		}),
	}
	p.flags(cmd)
	l.flags(cmd.Flags())
	return cmd
}

// listing is how entries of a collection are shown.
type listing struct {
	json  bool
	limit int
}

func (l *listing) flags(f *pflag.FlagSet) {
	f.BoolVar(&l.json, "json", false, jsonHelp)
	f.IntVar(&l.limit, "limit", 0, "show so many at most; 0: all")
}

// block is how many rows are shown at a time: what is listed need not fit into
// memory.
const block = 1000

// print shows the entries, as they come.
func (l *listing) print(out io.Writer, entries iter.Seq2[json.RawMessage, error], header []string, columns func(resource) []string) error {
	n := 0
	table := newTable(out, header...)
	separator := "[\n"
	for raw, err := range entries {
		if err != nil {
			return err
		}
		if l.limit > 0 && n == l.limit {
			break
		}
		n++
		if l.json {
			if _, err := fmt.Fprint(out, separator, compact(raw)); err != nil {
				return err
			}
			separator = ",\n"
			continue
		}
		var r resource
		if err := decode(raw, &r); err != nil {
			return err
		}
		table.add(columns(r)...)
		if n%block == 0 {
			if err := table.print(); err != nil {
				return err
			}
			table = newTable(out)
		}
	}
	switch {
	case l.json && n == 0:
		_, err := fmt.Fprintln(out, "[]")
		return err
	case l.json:
		_, err := fmt.Fprint(out, "\n]\n")
		return err
	case n > 0 && n%block == 0:
		return nil
	}
	return table.print()
}

func newObjectCreate(k kind) *cobra.Command {
	var p place
	var change change
	var reply reply
	cmd := &cobra.Command{
		Use:   "create [NAME]",
		Short: fmt.Sprintf("Create a %s", k.noun),
		Long:  fmt.Sprintf("Create a %s. Without NAME, its unique name, only its SID names it.", k.noun),
		Args:  cobra.MaximumNArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			form := url.Values{}
			if len(args) > 0 {
				form.Set("UniqueName", args[0])
			}
			if len(args) > 1 {
				data, err := readData(cmd.InOrStdin(), args[1])
				if err != nil {
					return err
				}
				form.Set("Data", data)
			}
			if err := change.form(form, k.ttlParameter()); err != nil {
				return err
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			return write(cmd, c, client.Request{Path: client.Path("Services", service, k.collection), Form: form}, "created "+k.noun, reply)
		}),
	}
	cmd.Example = fmt.Sprintf("  lockstep %[1]s create new\n  lockstep %[1]s create --ttl 1h", k.word)
	if k.holdsData() {
		cmd.Use, cmd.Args = "create [NAME [DATA]]", cobra.MaximumNArgs(2)
		cmd.Long += "\n\n" + dataHelp
		cmd.Example = `  lockstep doc create new '{"colour": "red"}'
  lockstep doc create --ttl 1h`
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	change.ttlFlag(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

// write does a POST and tells of what it made or changed.
func write(cmd *cobra.Command, c *client.Client, r client.Request, done string, reply reply) error {
	r.Method = http.MethodPost
	var raw json.RawMessage
	if err := c.Do(cmd.Context(), r, &raw); err != nil {
		return err
	}
	return reply.tell(cmd.OutOrStdout(), raw, done)
}

// tell says what became of something that was written.
func (r reply) tell(out io.Writer, raw json.RawMessage, done string) error {
	if r.json {
		return printJSON(out, raw)
	}
	var it resource
	if err := decode(raw, &it); err != nil {
		return err
	}
	line := done + " " + it.name()
	if it.SID != "" && it.SID != it.name() {
		line += " (" + it.SID + ")"
	}
	if it.Revision != "" {
		line += ", revision " + it.Revision
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

func newObjectGet(k kind) *cobra.Command {
	var p place
	var reply reply
	cmd := &cobra.Command{
		Use:     "get NAME",
		Short:   fmt.Sprintf("Show a %s", k.noun),
		Example: fmt.Sprintf("  lockstep %[1]s get %[2]s\n  lockstep %[1]s get %[2]s --json", k.word, sample(k)),
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			path := client.Path("Services", service, k.collection, args[0])
			if len(args) > 1 {
				path = client.Path("Services", service, k.collection, args[0], "Items", args[1])
			} else if reply.data && !k.holdsData() {
				return usage{fmt.Errorf("--data needs the %s of an item: a %s has no data of its own", k.item(), k.noun)}
			}
			var raw json.RawMessage
			if err := c.Get(cmd.Context(), path, &raw); err != nil {
				return err
			}
			return reply.show(cmd.OutOrStdout(), raw)
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeItems(k)
	reply.flags(cmd.Flags())
	if k != streams {
		cmd.Flags().BoolVar(&reply.data, "data", false, "print the data alone")
		cmd.MarkFlagsMutuallyExclusive("json", "data")
	}
	if k.holdsItems() {
		cmd.Use = fmt.Sprintf("get NAME [%s]", k.item())
		cmd.Short = fmt.Sprintf("Show a %s, or one of its items", k.noun)
		cmd.Args = cobra.RangeArgs(1, 2)
		cmd.Example = fmt.Sprintf("  lockstep %[1]s get %[2]s\n  lockstep %[1]s get %[2]s %[3]s --data", k.word, sample(k), sampleItem(k))
	}
	if k.holdsData() {
		cmd.Example += "\n  lockstep doc get config --data > config.json"
	}
	return cmd
}

// sample is the name of an object in examples, and sampleItem that of an item.
func sample(k kind) string {
	return map[kind]string{documents: "config", lists: "journey", maps: "scores", streams: "moves"}[k]
}

func sampleItem(k kind) string {
	return map[kind]string{lists: "0", maps: "alice"}[k]
}

// show prints an object or an item.
func (r reply) show(out io.Writer, raw json.RawMessage) error {
	if r.json {
		return printJSON(out, raw)
	}
	var it resource
	if err := decode(raw, &it); err != nil {
		return err
	}
	if r.data {
		return printJSON(out, it.Data)
	}
	t := newTable(out)
	if it.UniqueName != nil {
		t.named("name", *it.UniqueName)
	}
	t.named("sid", it.SID)
	if it.Key != nil {
		t.named("key", *it.Key)
	}
	if it.Index != nil {
		t.named("index", fmt.Sprint(*it.Index))
	}
	t.named("revision", it.Revision)
	t.named("created", it.Created+" by "+it.CreatedBy)
	t.named("updated", it.Updated)
	if it.Expires != nil {
		t.named("expires", *it.Expires)
	}
	if it.Data != nil {
		t.named("data", compact(it.Data))
	}
	return t.print()
}

func newObjectUpdate(k kind) *cobra.Command {
	var p place
	var change change
	var reply reply
	cmd := &cobra.Command{
		Use:     "update NAME --ttl TTL",
		Short:   fmt.Sprintf("Change how long a %s lives", k.noun),
		Example: fmt.Sprintf("  lockstep %[1]s update %[2]s --ttl 24h\n  lockstep %[1]s update %[2]s --ttl 0", k.word, sample(k)),
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			form := url.Values{}
			if len(args) > 1 {
				data, err := readData(cmd.InOrStdin(), args[1])
				if err != nil {
					return err
				}
				form.Set("Data", data)
			}
			if err := change.form(form, k.ttlParameter()); err != nil {
				return err
			}
			if len(form) == 0 {
				return usage{errors.New("say what is to change: " + cmd.UseLine())}
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			return write(cmd, c, client.Request{
				Path: client.Path("Services", service, k.collection, args[0]), Form: form, IfMatch: change.ifMatch,
			}, "updated "+k.noun, reply)
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(k)
	change.ttlFlag(cmd.Flags())
	if k.holdsData() {
		cmd.Use, cmd.Args = "update NAME [DATA] [--ttl TTL]", cobra.RangeArgs(1, 2)
		cmd.Short = "Change a document that is there: its data, or how long it lives"
		cmd.Long = cmd.Short + ".\n\n" + dataHelp + ` It takes the place of what is there;
--if-match makes sure of what that is.`
		cmd.Example = `  lockstep doc update config '{"colour": "green"}'
  lockstep doc update config --ttl 24h`
		change.matchFlag(cmd.Flags())
	}
	reply.flags(cmd.Flags())
	return cmd
}

func newObjectDelete(k kind) *cobra.Command {
	var p place
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   fmt.Sprintf("Delete a %s", k.noun),
		Example: fmt.Sprintf("  lockstep %s delete old", k.word),
		Args:    cobra.ExactArgs(1),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			if err := c.Do(cmd.Context(), client.Request{Method: http.MethodDelete, Path: client.Path("Services", service, k.collection, args[0])}, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "deleted %s %s\n", k.noun, args[0])
			return nil
		}),
	}
	if k.holdsItems() {
		cmd.Short = fmt.Sprintf("Delete a %s with all its items", k.noun)
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(k)
	return cmd
}

// upsert updates what is at one path, or creates it at another one. Somebody else
// may create or remove it in between; each is tried again then, a few times.
func upsert(cmd *cobra.Command, c *client.Client, update, create client.Request) (raw json.RawMessage, created bool, err error) {
	update.Method, create.Method = http.MethodPost, http.MethodPost
	for range 3 {
		if err = c.Do(cmd.Context(), update, &raw); !client.IsNotFound(err) {
			return raw, false, err
		}
		if err = c.Do(cmd.Context(), create, &raw); !client.IsConflict(err) {
			return raw, true, err
		}
	}
	return nil, false, err
}

func newDocumentSet() *cobra.Command {
	var p place
	var change change
	var reply reply
	cmd := &cobra.Command{
		Use:   "set NAME DATA",
		Short: "Set a document's data, and create it if it is not there",
		Long: `Set a document's data, and create it if it is not there. With --if-match it is only
changed, and only if that is its revision still.

` + dataHelp,
		Example: `  lockstep doc set config '{"colour": "red"}'
  echo '{"colour": "red"}' | lockstep doc set config -
  lockstep doc set config @config.json --ttl 24h`,
		Args: cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			data, err := readData(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			form := url.Values{"Data": {data}}
			if err := change.form(form, "Ttl"); err != nil {
				return err
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			update := client.Request{Path: client.Path("Services", service, "Documents", args[0]), Form: form, IfMatch: change.ifMatch}
			if change.ifMatch != "" || sidForm.MatchString(args[0]) {
				return write(cmd, c, update, "updated document", reply)
			}
			create := client.Request{Path: client.Path("Services", service, "Documents"), Form: with(form, "UniqueName", args[0])}
			raw, created, err := upsert(cmd, c, update, create)
			if err != nil {
				return err
			}
			return reply.tell(cmd.OutOrStdout(), raw, verb(created)+" document")
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(documents)
	change.ttlFlag(cmd.Flags())
	change.matchFlag(cmd.Flags())
	reply.flags(cmd.Flags())
	return cmd
}

func verb(created bool) string {
	if created {
		return "created"
	}
	return "updated"
}

// with returns a form with one more parameter.
func with(form url.Values, name, value string) url.Values {
	more := url.Values{name: {value}}
	for n, v := range form {
		more[n] = v
	}
	return more
}

func newPublish() *cobra.Command {
	var p place
	var reply reply
	cmd := &cobra.Command{
		Use:   "publish NAME DATA",
		Short: "Publish a message to all who subscribe to a stream now",
		Long:  "Publish a message to all who subscribe to a stream now.\n\n" + dataHelp,
		Example: `  lockstep stream publish moves '{"x": 1, "y": 2}'
  echo '"hello"' | lockstep stream publish moves -`,
		Args: cobra.ExactArgs(2),
		RunE: does(func(cmd *cobra.Command, args []string) error {
			data, err := readData(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			c, service, err := p.open(cmd)
			if err != nil {
				return err
			}
			return write(cmd, c, client.Request{
				Path: client.Path("Services", service, "Streams", args[0], "Messages"), Form: url.Values{"Data": {data}},
			}, "published message", reply)
		}),
	}
	p.flags(cmd)
	cmd.ValidArgsFunction = p.completeNames(streams)
	reply.flags(cmd.Flags())
	return cmd
}
