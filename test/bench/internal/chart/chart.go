// Package chart draws reports as SVG: bars with least and most for what is
// compared, lines for what grows.
package chart

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"

	"lockstep/cmd/lockstep/bench/internal/report"
)

// Draw draws the first column of each scenario that was measured into a folder, and
// returns the files.
func Draw(r *report.Report, dir string) (files []string, err error) {
	for _, s := range report.Scenarios {
		if s.Grows {
			if len(r.Lines(s.Name)) == 0 {
				continue
			}
			file := filepath.Join(dir, s.Name+".svg")
			if err := grown(r, s, file); err != nil {
				return files, fmt.Errorf("draw %s: %w", s.Name, err)
			}
			files = append(files, file)
			continue
		}
		for _, n := range numbers(r.Lines(s.Name)) {
			file := filepath.Join(dir, fmt.Sprintf("%s-%d.svg", s.Name, n))
			drawn, err := compared(r, s, n, file)
			if err != nil {
				return files, fmt.Errorf("draw %s: %w", s.Name, err)
			}
			if drawn {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

func numbers(lines []report.Line) (n []int) {
	for _, l := range lines {
		n = append(n, l.N)
	}
	return slices.Compact(n)
}

// across are medians with their spread to the left and to the right, one above
// another.
type across []report.Spread

func (a across) Len() int                    { return len(a) }
func (a across) XY(i int) (float64, float64) { return a[i].Median, float64(i) }
func (a across) XError(i int) (float64, float64) {
	return a[i].Min - a[i].Median, a[i].Max - a[i].Median
}

// upright are medians at some x with their spread below and above.
type upright struct {
	x []float64
	y []report.Spread
}

func (u upright) Len() int                    { return len(u.x) }
func (u upright) XY(i int) (float64, float64) { return u.x[i], u.y[i].Median }
func (u upright) YError(i int) (float64, float64) {
	return u.y[i].Min - u.y[i].Median, u.y[i].Max - u.y[i].Median
}

// compared draws a bar for each row at one n, the first one on top.
func compared(r *report.Report, s report.Scenario, n int, file string) (bool, error) {
	var names []string
	var values plotter.Values
	var spreads across
	for _, l := range slices.Backward(r.Lines(s.Name)) {
		if figure := r.Spread(s.Name, l.Row, n, s.Columns[0].Metric); l.N == n && figure.Count > 0 {
			names = append(names, fmt.Sprintf("%s: %s", l.Row, report.Number(figure.Median)))
			values, spreads = append(values, figure.Median), append(spreads, figure)
		}
	}
	if len(values) == 0 {
		return false, nil
	}
	p := plot.New()
	p.Title.Text = fmt.Sprintf("%s, %d %s", s.Name, n, s.Counts)
	p.X.Label.Text, p.X.Min = s.Columns[0].Title, 0
	chart, err := plotter.NewBarChart(values, vg.Points(9))
	if err != nil {
		return false, err
	}
	chart.Horizontal, chart.LineStyle.Width, chart.Color = true, 0, plotutil.Color(2)
	spread, err := plotter.NewXErrorBars(spreads)
	if err != nil {
		return false, err
	}
	// Names are above the bars: beside them, they would be cut off where the font
	// is a wider one.
	places := make(plotter.XYs, len(names))
	for i := range places {
		places[i].Y = float64(i) + 0.22
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: places, Labels: names})
	if err != nil {
		return false, err
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font.Size = vg.Points(9)
	}
	p.Add(chart, spread, labels)
	p.HideY()
	p.Y.Max = float64(len(names)) - 0.3
	return true, p.Save(20*vg.Centimeter, vg.Length(len(names))*vg.Centimeter+3*vg.Centimeter, file)
}

// grown draws a line for each row, over n.
func grown(r *report.Report, s report.Scenario, file string) error {
	p := plot.New()
	p.Title.Text = s.Name
	p.X.Label.Text, p.Y.Label.Text = s.Counts, s.Columns[0].Title
	p.Y.Min = 0
	p.Legend.Top, p.Legend.Left = true, true
	lines := r.Lines(s.Name)
	all := numbers(lines)
	if all[0] > 0 && all[len(all)-1] >= 100*all[0] {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, powers{}
	}
	var rows []string
	for _, l := range lines {
		if !slices.Contains(rows, l.Row) {
			rows = append(rows, l.Row)
		}
	}
	for i, row := range rows {
		var points upright
		for _, n := range all {
			if figure := r.Spread(s.Name, row, n, s.Columns[0].Metric); figure.Count > 0 {
				points.x, points.y = append(points.x, float64(n)), append(points.y, figure)
			}
		}
		if points.Len() == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		line.Color, marks.Color = plotutil.Color(i), plotutil.Color(i)
		spread, err := plotter.NewYErrorBars(points)
		if err != nil {
			return err
		}
		p.Add(line, marks, spread)
		p.Legend.Add(row, line, marks)
	}
	p.Y.Max *= 1.2 // room for the legend, and below for the last number
	p.X.Max *= 1.6
	return p.Save(16*vg.Centimeter, 10*vg.Centimeter, file)
}

// powers are ticks at the powers of ten.
type powers struct{}

// Ticks implements plot.Ticker.
func (powers) Ticks(least, most float64) (ticks []plot.Tick) {
	for e := math.Floor(math.Log10(least)); e <= math.Ceil(math.Log10(most)); e++ {
		v := math.Pow(10, e)
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return ticks
}
