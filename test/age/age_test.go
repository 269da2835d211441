//go:build age

package age

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

var duration = flag.Duration("for", time.Hour, "how long the cluster runs; at least 3 minutes, since commands are remembered for two")

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(harness.Main(m))
}

const (
	writers   = 4
	writePace = 20 * time.Millisecond // of each of them
	samples   = 120                   // at least, in all

	snapshotThreshold = 2000
)

// figure is something that is measured of each node, and how much of it is flat.
// What a leader has more of than others is flat in the whole cluster only, since the
// leader changes.
type figure struct {
	name    string
	whole   bool // all nodes together
	allowed Allowance
	measure func(t *testing.T, n *harness.Node, metrics map[string]float64) float64
}

// of names the series that a node's measurements belong to.
func (f figure) of(n *harness.Node) string {
	if f.whole {
		return f.name + " of all nodes"
	}
	return f.name + " of " + n.ID
}

var (
	logFile = figure{"log file, bytes", false, Allowance{Share: 0.1, Least: 16 << 20}, func(t *testing.T, n *harness.Node, _ map[string]float64) float64 {
		return used(t, filepath.Join(n.Dir, "raft", "log.db"))
	}}
	disk = figure{"disk, bytes", false, Allowance{Share: 0.1, Least: 16 << 20}, func(t *testing.T, n *harness.Node, _ map[string]float64) float64 {
		return used(t, n.Dir)
	}}
	memory = figure{"memory, bytes", false, Allowance{Share: 0.1, Least: 16 << 20}, func(_ *testing.T, _ *harness.Node, metrics map[string]float64) float64 {
		return metrics["process_resident_memory_bytes"]
	}}
	goroutines = figure{"goroutines", true, Allowance{Share: 0.1, Least: 10}, func(_ *testing.T, _ *harness.Node, metrics map[string]float64) float64 {
		return metrics["go_goroutines"]
	}}
	openFiles = figure{"open files", true, Allowance{Share: 0.1, Least: 10}, func(_ *testing.T, _ *harness.Node, metrics map[string]float64) float64 {
		return metrics["process_open_fds"]
	}}
)

// Clients write, read, subscribe, come and go at an even pace, and the state stays
// as large as it is. Then everything else does, too.
func TestNothingGrowsWithAge(t *testing.T) {
	require.GreaterOrEqual(t, *duration, 3*time.Minute)
	c := harness.Start(t, harness.Config{Env: []string{
		fmt.Sprint("LOCKSTEP_SNAPSHOT_THRESHOLD=", snapshotThreshold), "LOCKSTEP_TRAILING_LOGS=2000", "LOCKSTEP_TRAILING_LOG_BYTES=8MiB",
	}})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	l := &load{cluster: c, ctx: ctx}
	l.begin(t, &work)

	first := c.Nodes[0].Metrics()
	w := &watch{cluster: c, figures: []figure{logFile, disk, memory, goroutines, openFiles}, began: time.Now(), series: map[string][]Sample{}}
	w.until(t, *duration)
	applied := c.Nodes[0].Metrics()["lockstep_raft_applied_index"] - first["lockstep_raft_applied_index"]
	stop()
	work.Wait()

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%v: %d writes, %d failed; %d sessions; %.0f log entries\n", *duration, l.done.Load(), l.failed.Load(), l.sessions.Load(), applied)
	w.requireFlat(t, table)
	require.NoError(t, table.Flush())
	require.Zero(t, l.failed.Load(), "writes that failed; the last: %v", l.failure.Load())
	require.NotZero(t, l.sessions.Load())
	require.Greater(t, applied, 3.0*snapshotThreshold, "too little was written for the log to be cut")
}

// watch is what was measured of the nodes since it began.
type watch struct {
	cluster *harness.Cluster
	figures []figure
	began   time.Time
	series  map[string][]Sample
}

// until measures again and again until so much time has passed since the beginning.
func (w *watch) until(t *testing.T, end time.Duration) {
	every := time.NewTicker(min(*duration/samples, 10*time.Second))
	defer every.Stop()
	for time.Since(w.began) < end {
		<-every.C
		at, sums := time.Since(w.began), map[string]float64{}
		for _, n := range w.cluster.Nodes {
			m := n.Metrics()
			for _, f := range w.figures {
				sums[f.of(n)] += f.measure(t, n, m)
			}
		}
		for name, sum := range sums {
			w.series[name] = append(w.series[name], Sample{At: at, Value: sum})
		}
	}
}

// requireFlat prints the figures, and fails the test for each that grew.
func (w *watch) requireFlat(t *testing.T, table *tabwriter.Writer) {
	t.Helper()
	fmt.Fprintln(table, "figure\tfirst\tmean of second half\tgrowth in it\tallowed")
	for _, f := range w.figures {
		nodes := w.cluster.Nodes
		if f.whole {
			nodes = nodes[:1]
		}
		for _, n := range nodes {
			name := f.of(n)
			trend, err := Fit(w.series[name])
			require.NoError(t, err)
			fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.0f\n", name, w.series[name][0].Value, trend.Mean, trend.Growth, f.allowed.Most(trend))
			if err := f.allowed.Flat(trend); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// load is what clients do.
type load struct {
	cluster *harness.Cluster
	ctx     context.Context

	done, failed, sessions atomic.Int64
	failure                atomic.Value // the last one, as text
}

func (l *load) begin(t *testing.T, work *sync.WaitGroup) {
	rest := l.cluster.Nodes[0].REST()
	for _, path := range []string{"/Maps", "/Streams"} {
		_, err := rest.Post(l.ctx, path, harness.Form("UniqueName", "old"))
		require.NoError(t, err)
	}
	a, err := rest.Get(l.ctx, "/Maps/old")
	require.NoError(t, err)
	var m struct{ SID string }
	require.NoError(t, a.Decode(&m))
	for i := range writers {
		work.Go(func() { l.write(i) })
	}
	for i, n := range l.cluster.Nodes {
		token := l.cluster.Token(fmt.Sprint("reader-", i))
		work.Go(func() { l.read(n, token, m.SID) })
	}
}

// write changes items, documents and streams, so that the state stays as large
// as it is.
func (l *load) write(writer int) {
	rest := l.cluster.Nodes[writer%len(l.cluster.Nodes)].REST()
	data := `{"text":"` + strings.Repeat("x", 500) + `"}`
	pace := time.NewTicker(writePace)
	defer pace.Stop()
	for i := 0; l.ctx.Err() == nil; i++ {
		key, document := fmt.Sprintf("%d-%d", writer, i/3%100), fmt.Sprintf("d-%d", writer)
		var err error
		switch i % 6 {
		case 0:
			_, err = rest.Post(l.ctx, "/Maps/old/Items", harness.Form("Key", key, "Data", data))
		case 1:
			_, err = rest.Post(l.ctx, "/Maps/old/Items/"+key, harness.Form("Data", data))
		case 2:
			err = l.remove(rest, "/Maps/old/Items/"+key)
		case 3:
			_, err = rest.Post(l.ctx, "/Documents", harness.Form("UniqueName", document, "Data", data))
		case 4:
			_, err = rest.Post(l.ctx, "/Streams/old/Messages", harness.Form("Data", data))
		case 5:
			err = l.remove(rest, "/Documents/"+document)
		}
		switch {
		case err == nil:
			l.done.Add(1)
		case l.ctx.Err() == nil:
			l.failed.Add(1)
			l.failure.Store(err.Error())
		}
		select {
		case <-pace.C:
		case <-l.ctx.Done():
		}
	}
}

func (l *load) remove(rest *harness.REST, path string) error {
	a, err := rest.Do(l.ctx, http.MethodDelete, path, nil)
	if err == nil {
		err = a.Err()
	}
	return err
}

// read opens one session after the other, and follows the map in each for a while.
func (l *load) read(n *harness.Node, token, sid string) {
	for l.ctx.Err() == nil {
		s, err := harness.Connect(l.ctx, n.URL, token)
		if err != nil {
			select {
			case <-time.After(100 * time.Millisecond):
			case <-l.ctx.Done():
			}
			continue
		}
		l.sessions.Add(1)
		if s.Follow(sid, "map", 0) == nil {
			for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && l.ctx.Err() == nil; {
				if _, err := s.Next(5 * time.Second); err != nil {
					break
				}
			}
		}
		s.Close()
	}
}

// used returns how many bytes of the disk a file or directory takes.
func used(t *testing.T, path string) (bytes float64) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that was removed meanwhile
		}
		if info, err := entry.Info(); err == nil {
			bytes += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512
		}
		return nil
	}))
	return bytes
}
