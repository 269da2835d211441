package report

import (
	"fmt"
	"io"
	"strings"
)

// Tables writes a table of each scenario that was measured, as Markdown.
func (r *Report) Tables(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s, %d CPUs, %s, %s; %g s a sample.\n", r.Started, r.CPUs, r.System, r.Go, r.Seconds); err != nil {
		return err
	}
	for _, s := range Scenarios {
		if lines := r.Lines(s.Name); len(lines) > 0 {
			if _, err := io.WriteString(w, r.table(s, lines)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Report) table(s Scenario, lines []Line) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n", s.Name, s.About)
	titles := []string{"what", s.Counts, s.Columns[0].Title}
	if s.Base != "" {
		titles = append(titles, "× base")
	}
	for _, c := range s.Columns[1:] {
		titles = append(titles, c.Title)
	}
	fmt.Fprintf(&b, "| %s |\n|---|%s\n", strings.Join(titles, " | "), strings.Repeat("---:|", len(titles)-1))
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(r.cells(s, l), " | "))
	}
	return b.String()
}

// cells are a line of a table.
func (r *Report) cells(s Scenario, l Line) []string {
	cells := []string{l.Row, fmt.Sprint(l.N)}
	if why := r.Failure(s.Name, l); why != "" {
		return append(cells, "failed: "+strings.NewReplacer("|", "/", "\n", "; ").Replace(why))
	}
	first := s.Columns[0].Metric
	figure := r.Spread(s.Name, l.Row, l.N, first)
	cells = append(cells, figure.String())
	if s.Base != "" {
		cells = append(cells, ratio(figure, r.Spread(s.Name, s.Base, l.N, first)))
	}
	for _, c := range s.Columns[1:] {
		cell := "–"
		if figure := r.Spread(s.Name, l.Row, l.N, c.Metric); figure.Count > 0 {
			cell = Number(figure.Median)
		}
		cells = append(cells, cell)
	}
	return cells
}

func ratio(figure, base Spread) string {
	if figure.Count == 0 || base.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", figure.Median/base.Median)
}

// String returns the median, with least and most if there were several.
func (s Spread) String() string {
	switch s.Count {
	case 0:
		return "–"
	case 1:
		return Number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median), Number(s.Min), Number(s.Max))
}

// Number writes a figure with about three digits.
func Number(f float64) string {
	switch a := max(f, -f); {
	case a == 0:
		return "0"
	case a >= 100:
		return thousands(fmt.Sprintf("%.0f", f))
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

func thousands(digits string) string {
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
