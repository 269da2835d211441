//go:build age

package age

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/server/admin"
	"lockstep/test/harness"
)

const (
	steadyClients   = 64
	steadyShare     = 0.7              // of what the cluster can do
	steadyThreshold = 20_000           // log entries between two snapshots
	steadyWindow    = 10 * time.Second // that delays are told of
	capacityTime    = 15 * time.Second // for measuring what the cluster can do
	fillTime        = 150 * time.Second
	giveUp          = 30 * time.Second // after which a write that was not acknowledged has failed
)

// A cluster that is given 70 % of what it can do, while it writes snapshots, cuts its
// log, has clients that come and go and loses its leader for a while, answers from
// window to window as it did before, and holds no more. How fast that is depends on
// the machine, so delays are printed, and what the nodes hold is asserted.
func TestSteadyNearCapacity(t *testing.T) {
	require.GreaterOrEqual(t, *duration, 2*time.Minute)
	c := harness.Start(t, harness.Config{Env: []string{
		fmt.Sprint("LOCKSTEP_SNAPSHOT_THRESHOLD=", steadyThreshold), "LOCKSTEP_TRAILING_LOGS=2000", "LOCKSTEP_TRAILING_LOG_BYTES=8MiB",
	}})
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	l := &load{cluster: c, ctx: ctx}
	l.begin(t, &work)
	for i := range steadyClients {
		_, err := c.Nodes[0].REST().Post(ctx, "/Documents", harness.Form("UniqueName", steadyDocument(i), "Data", "{}"))
		require.NoError(t, err)
	}
	s := &steady{cluster: c}
	capacity := s.capacity(ctx)
	require.NotZero(t, capacity)
	pace := steadyShare * capacity
	t.Logf("%.0f writes/s of %d clients beside %d others; %.0f a second from now on", capacity, steadyClients, writers, pace)

	// Nodes remember commands for two minutes: until they hold as many as they ever
	// will at this pace, they grow as they must.
	s.begin(ctx, &work, pace)
	t.Logf("%v until the nodes remember as many commands as they will", fillTime)
	select {
	case <-time.After(fillTime):
	case <-ctx.Done():
	}

	first := c.Nodes[0].Metrics()
	s.measure()
	w := &watch{cluster: c, figures: steadyFigures(), began: time.Now(), series: map[string][]Sample{}}
	w.until(t, *duration/4)
	changed := time.Since(w.began)
	from, to, stopped := changeLeader(t, c)
	w.until(t, *duration)
	last := c.Nodes[0].Metrics()
	stop()
	work.Wait()

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	snapshots := last["lockstep_snapshot_seconds_count"] - first["lockstep_snapshot_seconds_count"]
	fmt.Fprintf(table, "%v at %.0f writes/s; %.0f snapshots of %s; %d sessions; leader %s stopped after %v for %v, then %s leads\n",
		*duration, pace, snapshots, c.Nodes[0].ID, l.sessions.Load(), from.ID, changed.Round(time.Second), stopped.Round(time.Millisecond), to.ID)
	s.print(table)
	w.requireFlat(t, table)
	require.NoError(t, table.Flush())
	require.Empty(t, s.failures)
	require.NotZero(t, l.sessions.Load())
	require.GreaterOrEqual(t, snapshots, 2.0, "too little was written for snapshots, after which the log is cut")
}

// steadyFigures are the figures of an even pace, but that memory is that of all nodes
// together, since the leader holds more than others and changes, and that files may
// have a peak later: the log's file stays as large as the most that was ever in it,
// and near what a machine can do that depends on how long a snapshot takes.
func steadyFigures() []figure {
	log, all, held := logFile, disk, memory
	log.allowed.Least, all.allowed.Least = 64<<20, 64<<20
	held.whole = true
	return []figure{log, all, held, goroutines, openFiles}
}

// changeLeader stops the leader's process, as a stalled machine does, until another
// node leads. It returns both, and for how long the process stopped.
func changeLeader(t *testing.T, c *harness.Cluster) (from, to *harness.Node, stopped time.Duration) {
	from = c.Leader()
	from.Pause()
	begin := time.Now()
	defer func() {
		from.Resume()
		stopped = time.Since(begin)
	}()
	c.Until("another node leads", func() error {
		for _, n := range c.Nodes {
			if n == from {
				continue
			}
			s, err := n.Client().Status(t.Context())
			if err != nil {
				return err
			}
			if m, ok := s.Find(n.ID); ok && m.Role == admin.RoleLeader {
				to = n
				return nil
			}
		}
		return errors.New("none leads")
	})
	return from, to, 0
}

// steady is writes that come when it is their time: one that is late counts from
// then, so that a delay shows in all writes behind it.
type steady struct {
	cluster *harness.Cluster

	mu       sync.Mutex
	began    time.Time
	windows  [][]time.Duration // from when a write was to begin until it was acknowledged
	failures []string
}

func steadyDocument(client int) string { return fmt.Sprint("steady-", client) }

var steadyData = `{"text":"` + strings.Repeat("x", 240) + `"}`

// write changes a client's own document, through one node after the other until one
// has acknowledged it. It has no idempotency key, since it may be done twice: keys
// are remembered for ten minutes, and would fill the memory for as long.
func (s *steady) write(ctx context.Context, client int) error {
	ctx, cancel := context.WithTimeout(ctx, giveUp)
	defer cancel()
	for try := client; ; try++ {
		rest := s.cluster.Nodes[try%len(s.cluster.Nodes)].REST()
		rest.Timeout = 2 * time.Second
		_, err := rest.Post(ctx, "/Documents/"+steadyDocument(client), harness.Form("Data", steadyData))
		if err == nil {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// capacity returns how many writes a second all clients get acknowledged when each
// makes one after the other.
func (s *steady) capacity(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, capacityTime)
	defer cancel()
	done := make([]int, steadyClients)
	var all sync.WaitGroup
	for i := range steadyClients {
		all.Go(func() {
			for ctx.Err() == nil {
				if s.write(ctx, i) == nil {
					done[i]++
				}
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range done {
		sum += n
	}
	return float64(sum) / capacityTime.Seconds()
}

// begin has the clients write at a pace, together, until ctx ends.
func (s *steady) begin(ctx context.Context, work *sync.WaitGroup, pace float64) {
	began, each := time.Now(), time.Duration(steadyClients/pace*float64(time.Second))
	for i := range steadyClients {
		work.Go(func() {
			for due := began.Add(each * time.Duration(i) / steadyClients); ; due = due.Add(each) {
				select {
				case <-time.After(time.Until(due)):
				case <-ctx.Done():
					return
				}
				err := s.write(ctx, i)
				if ctx.Err() != nil {
					return
				}
				s.note(due, time.Since(due), err)
			}
		})
	}
}

// measure has delays noted from now on.
func (s *steady) measure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = time.Now()
}

func (s *steady) note(due time.Time, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := due.Sub(s.began)
	switch {
	case err != nil:
		s.failures = append(s.failures, fmt.Sprintf("%v: %v", due.Format(time.TimeOnly), err))
	case !s.began.IsZero() && at >= 0 && at < *duration:
		for len(s.windows) <= int(at/steadyWindow) {
			s.windows = append(s.windows, nil)
		}
		s.windows[at/steadyWindow] = append(s.windows[at/steadyWindow], took)
	}
}

func (s *steady) print(table *tabwriter.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(table, "from\twrites/s\tp50\tp99\tp99.9\tlongest")
	for i, took := range s.windows {
		if len(took) == 0 {
			continue
		}
		slices.Sort(took)
		at := func(share float64) time.Duration {
			return took[min(len(took)-1, int(share*float64(len(took))))].Round(10 * time.Microsecond)
		}
		from := time.Duration(i) * steadyWindow
		fmt.Fprintf(table, "%v\t%.0f\t%v\t%v\t%v\t%v\n", from, float64(len(took))/min(steadyWindow, *duration-from).Seconds(), at(0.5), at(0.99), at(0.999), at(1))
	}
}
