package server

import (
	"flag"
	"fmt"
	"maps"
	"os"
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
