package settings

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Show writes all settings in the form of the file, secrets hidden, each with where
// its value came from.
func (s *Settings) Show(w io.Writer) error {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range s.All() {
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}
		value := s.node(f)
		comment := cmp.Or(s.sources[f.Name], "default")
		if value.Kind == yaml.SequenceNode && len(value.Content) > 0 {
			key.LineComment = comment
		} else {
			value.LineComment = comment
		}
		root.Content = append(root.Content, key, value)
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(root); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	return e.Close()
}

func (s *Settings) node(f *pflag.Flag) *yaml.Node {
	_, list := f.Value.(pflag.SliceValue)
	switch {
	case s.sources[f.Name] == "" && list:
		return &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	case s.sources[f.Name] == "":
		return scalar(defaultOf(f))
	case isSecret(f):
		return scalar(hidden)
	case !list:
		return scalar(f.Value.String())
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range values(f) {
		n.Content = append(n.Content, scalar(v))
	}
	return n
}

func scalar(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if text == "" || strings.HasPrefix(text, "*") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// Reference writes the settings as tables in Markdown, one for each part.
func (s *Settings) Reference(w io.Writer) error {
	var parts []string
	rows := make(map[string][]*pflag.Flag)
	for _, f := range s.All() {
		part := f.Annotations[Part][0]
		if !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
		rows[part] = append(rows[part], f)
	}
	for _, part := range parts {
		if err := reference(w, part, rows[part]); err != nil {
			return err
		}
	}
	return nil
}

func reference(w io.Writer, part string, flags []*pflag.Flag) error {
	head := "| key | variable | default | |\n|---|---|---|---|\n"
	bounds := flags[0].Annotations[Full] != nil
	if bounds {
		head = "| key | variable | default | what is bounded | beyond it |\n|---|---|---|---|---|\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s", part, head)
	for _, f := range flags {
		live := ""
		if f.Annotations[Live] != nil {
			live = " ↻"
		}
		variable := f.Annotations[Environment][0]
		help := strings.TrimSuffix(f.Usage, " ["+variable+"]")
		fmt.Fprintf(&b, "| `%s`%s | `%s` | %s | %s |", f.Name, live, variable, code(defaultOf(f)), cell(help))
		if bounds {
			fmt.Fprintf(&b, " %s |", cell(f.Annotations[Full][0]))
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell writes a text so that it stays in its cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}
