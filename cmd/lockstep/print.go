package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"lockstep/server/admin"
)

// rows is a table for people: columns below a header, with colour on a terminal.
type rows struct {
	out     io.Writer
	table   table.Writer
	colours bool
}

// newTable begins a table. Without a header its first column names the second.
func newTable(out io.Writer, header ...string) *rows {
	t := &rows{out: out, table: table.NewWriter(), colours: inColour(out)}
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	style.Format.Header = text.FormatDefault
	t.table.SetStyle(style)
	t.table.SuppressTrailingSpaces()
	if len(header) > 0 {
		t.table.AppendHeader(t.row(header, text.Bold))
	}
	return t
}

// add adds a row.
func (t *rows) add(columns ...string) { t.table.AppendRow(t.row(columns, text.Reset)) }

// named adds a row of a table without a header, unless there is nothing to say.
func (t *rows) named(name, value string) {
	if value != "" {
		t.add(t.paint(name, text.Faint), value)
	}
}

func (t *rows) row(columns []string, look text.Color) table.Row {
	row := make(table.Row, len(columns))
	for i, c := range columns {
		row[i] = t.paint(c, look)
	}
	return row
}

// paint colours a text, on a terminal.
func (t *rows) paint(s string, look text.Color) string {
	if !t.colours || look == text.Reset {
		return s
	}
	return look.Sprint(s)
}

// print writes the table.
func (t *rows) print() error {
	_, err := io.WriteString(t.out, t.table.Render()+"\n")
	return err
}

// inColour reports whether somebody sees colours, and wants them.
func inColour(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// roleColour is how a node's role is shown.
func roleColour(role string) text.Color {
	switch role {
	case admin.RoleLeader:
		return text.FgGreen
	case admin.RoleUnreachable:
		return text.FgRed
	}
	return text.Reset
}

// printJSON writes a value for programs.
func printJSON(out io.Writer, value any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// compact returns JSON without white space around its tokens, as text on one line.
func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return string(raw)
	}
	return b.String()
}
