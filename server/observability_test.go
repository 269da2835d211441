package server

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	dto "github.com/prometheus/client_model/go"

	"lockstep/server/backup"
)

var updateDocs = flag.Bool("update", false, "write the table of metrics in docs/observability.md anew")

// everything is a node that has all its metrics: it makes backups, and has a certificate.
func everything(t *testing.T) map[string]*dto.MetricFamily {
	pair := newTestPair(t)
	pair.write(t, "127.0.0.1")
	_, r := startTLS(t, Config{
		DataDir: dataDir(t), NodeID: "one", Bootstrap: true, TLS: pair.TLS,
		Backups: backup.Plan{Dir: t.TempDir(), Every: time.Hour, Keep: 1},
	}, pair.ca)
	r.untilReady(t)
	defer func() { require.NoError(t, r.end(t)) }()
	res, err := r.HTTP.Get(r.url + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(res.Body)
	require.NoError(t, err)
	return families
}

const (
	tableBegins = "<!-- metrics: made by go test ./server -run MetricsAreDocumented -update -->\n"
	tableEnds   = "<!-- end of metrics -->\n"
)

// TestMetricsAreDocumented holds that docs/observability.md has every metric that a
// node has, with what it is for.
func TestMetricsAreDocumented(t *testing.T) {
	const path = "../docs/observability.md"
	families := everything(t)
	var table strings.Builder
	table.WriteString("\n| metric | labels | what it says |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		if !strings.HasPrefix(name, "lockstep_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&table, "| `%s` (%s) | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	table.WriteString("\n")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), tableBegins)
	require.True(t, ok)
	_, tail, ok := strings.Cut(rest, tableEnds)
	require.True(t, ok)
	want := head + tableBegins + table.String() + tableEnds + tail
	if *updateDocs {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	require.Equal(t, string(text), want, "go test ./server -run MetricsAreDocumented -update")
}

// TestDashboardsAndAlertsNameMetricsThatExist holds that what is in docs/ops asks for
// nothing that a node does not have.
func TestDashboardsAndAlertsNameMetricsThatExist(t *testing.T) {
	families := everything(t)
	var files []string
	for _, pattern := range []string{"*.yaml", "*.json", "*.md"} {
		found, err := filepath.Glob(filepath.Join("../docs/ops", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found)
		files = append(files, found...)
	}
	for _, file := range append(files, "../docs/observability.md") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile(`\b(lockstep|go|process)(_[a-z0-9]+)+`).FindAllString(string(text), -1) {
			require.True(t, exists(families, name), "%s: a node has no metric %s", file, name)
		}
	}
	require.False(t, exists(families, "lockstep_nonesuch"))
	require.False(t, exists(families, "lockstep_raft_leader_count"), "only histograms have one")
}

// exists reports whether a name is one of a metric, or of a series of a histogram.
func exists(families map[string]*dto.MetricFamily, name string) bool {
	if families[name] != nil {
		return true
	}
	for _, suffix := range []string{"_bucket", "_count", "_sum"} {
		if of, ok := strings.CutSuffix(name, suffix); ok && families[of].GetType() == dto.MetricType_HISTOGRAM && families[of] != nil {
			return true
		}
	}
	return false
}
