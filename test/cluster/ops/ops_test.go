package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	folder    = "../../../docs/ops"
	rulesFile = "alerts.yaml"
	testsFile = "alerts.test.yaml"
)

func rules(t *testing.T) map[string]rulefmt.Rule {
	groups, errs := rulefmt.ParseFile(filepath.Join(folder, rulesFile), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	all := map[string]rulefmt.Rule{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			require.NotContains(t, all, r.Alert)
			all[r.Alert] = r
		}
	}
	require.NotEmpty(t, all)
	return all
}

func TestRulesAreValidAndSayWhatToDo(t *testing.T) {
	runbooks, err := os.ReadFile(filepath.Join(folder, "runbooks.md"))
	require.NoError(t, err)
	all := rules(t)
	for name, r := range all {
		require.Contains(t, []string{"critical", "warning", "info"}, r.Labels["severity"], name)
		require.NotEmpty(t, r.Annotations["summary"], name)
		require.Equal(t, "docs/ops/runbooks.md#"+strings.ToLower(name), r.Annotations["runbook"], name)
		require.Contains(t, string(runbooks), "\n## "+name+"\n\n", "the alert's runbook")
	}
	for _, heading := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(runbooks), -1) {
		require.Contains(t, all, heading[1], "a runbook of no alert")
	}
}

// tests has the form of promtool's files, as far as they use it.
type tests struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []struct {
		Name     string         `yaml:"name"`
		Interval model.Duration `yaml:"interval"`
		Series   []struct {
			Series string `yaml:"series"`
			Values string `yaml:"values"`
		} `yaml:"input_series"`
		Alerts []struct {
			At       model.Duration `yaml:"eval_time"`
			Name     string         `yaml:"alertname"`
			Expected []struct {
				Labels map[string]string `yaml:"exp_labels"`
			} `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(folder, testsFile))
	require.NoError(t, err)
	var file tests
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	require.NoError(t, decoder.Decode(&file))
	require.Equal(t, []string{rulesFile}, file.RuleFiles)
	all := rules(t)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			var store series
			for _, s := range test.Series {
				store.add(t, s.Series, s.Values, time.Duration(test.Interval))
			}
			for _, want := range test.Alerts {
				rule, ok := all[want.Name]
				require.True(t, ok, "no alert is named %s", want.Name)
				var expected []map[string]string
				for _, x := range want.Expected {
					expected = append(expected, x.Labels)
				}
				if len(expected) > 0 {
					fires[want.Name] = true
				} else {
					rests[want.Name] = true
				}
				got := firing(t, store, rule, time.Duration(file.EvaluationInterval), time.Duration(want.At))
				require.ElementsMatch(t, expected, got, "%s after %v", want.Name, want.At)
			}
		})
	}
	names := slices.Sorted(maps.Keys(all))
	require.Equal(t, names, slices.Sorted(maps.Keys(fires)), "alerts that a test sees fire")
	require.Equal(t, names, slices.Sorted(maps.Keys(rests)), "alerts that a test sees rest")
}

// firing returns the labels of the alerts of a rule that fire at a time, having been
// evaluated at intervals since the beginning.
func firing(t *testing.T, store series, rule rulefmt.Rule, every, at time.Duration) (all []map[string]string) {
	since := map[string]time.Duration{}
	for now := time.Duration(0); now <= at; now += every {
		seen := map[string]time.Duration{}
		all = nil
		for _, s := range evaluate(t, store, rule.Expr, time.Unix(0, 0).Add(now)) {
			l := s.Metric.Map()
			delete(l, model.MetricNameLabel)
			maps.Copy(l, rule.Labels)
			key := fmt.Sprint(l)
			begun, ok := since[key]
			if !ok {
				begun = now
			}
			seen[key] = begun
			if now-begun >= time.Duration(rule.For) {
				all = append(all, l)
			}
		}
		since = seen
	}
	return all
}

func evaluate(t *testing.T, store series, expr string, at time.Time) promql.Vector {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: 10 * time.Second, NoStepSubqueryIntervalFn: func(int64) int64 { return 15000 }})
	defer engine.Close()
	q, err := engine.NewInstantQuery(context.Background(), store, nil, expr, at)
	require.NoError(t, err, expr)
	defer q.Close()
	r := q.Exec(context.Background())
	require.NoError(t, r.Err, expr)
	v, err := r.Vector()
	require.NoError(t, err, expr)
	return slices.Clone(v)
}

// series is a storage that holds what a test gives it.
type series []storage.Series

func (s *series) add(t *testing.T, name, values string, every time.Duration) {
	l, sequence, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(name + " " + values)
	require.NoError(t, err, name)
	var samples []chunks.Sample
	for i, v := range sequence {
		if !v.Omitted {
			samples = append(samples, sample{(time.Duration(i) * every).Milliseconds(), v.Value})
		}
	}
	*s = append(*s, storage.NewListSeries(l, samples))
}

// Querier implements storage.Queryable.
func (s series) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found []storage.Series
		for _, x := range s {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(x.Labels().Get(m.Name)) }) {
				found = append(found, x)
			}
		}
		return &set{Series: found, at: -1}
	}}, nil
}

type set struct {
	Series []storage.Series
	at     int
}

func (s *set) Next() bool                        { s.at++; return s.at < len(s.Series) }
func (s *set) At() storage.Series                { return s.Series[s.at] }
func (s *set) Err() error                        { return nil }
func (s *set) Warnings() annotations.Annotations { return nil }

// dashboard is as much of one of Grafana's as is looked at.
type dashboard struct {
	Title  string
	UID    string
	Panels []struct {
		ID      int
		Title   string
		Type    string
		Targets []struct{ Expr string }
		Grid    struct{ X, Y, W, H int } `json:"gridPos"`
	}
}

func TestDashboardsAskWhatPrometheusUnderstands(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "lockstep", "$instance", ".*")
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(text, &d), file)
		ids := map[int]bool{}
		for _, p := range d.Panels {
			require.False(t, ids[p.ID], "panel %d is there twice", p.ID)
			ids[p.ID] = true
			require.LessOrEqual(t, p.Grid.X+p.Grid.W, 24, p.Title)
			require.True(t, p.Type == "row" || len(p.Targets) > 0, p.Title)
			for _, target := range p.Targets {
				expr := variables.Replace(target.Expr)
				require.NotContains(t, expr, "$", p.Title)
				evaluate(t, nil, expr, time.Unix(3600, 0))
			}
		}
	}
}

type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }
