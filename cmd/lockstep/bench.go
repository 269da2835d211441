package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cmd/lockstep/internal/load"
	"lockstep/server/admin"
	"lockstep/server/origin"
)

func newBench() *cobra.Command {
	var t target
	var asJSON bool
	var to, works []string
	b := load.Bench{Warm: time.Second}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Put a load on a cluster, and measure what it does",
		Long: `Put a load on a cluster, one kind of work after another, and measure what it does:
` + aboutWorks() + `
Clients do one operation after another, spread over all nodes. What they make is in a
service of its own, which is removed at the end, on Ctrl-C, too; its name is "lockstep
bench". The rate limits hold as for everybody: where they refused something, the
result says so, and is what the limits allow rather than what the cluster can do.
Start nodes with LOCKSTEP_RATE_LIMITS=off to measure the latter.

` + targetHelp,
		Example: `  lockstep bench
  lockstep bench --duration 30s --clients 256 --work writes,reads --url http://10.0.0.1:8080
  lockstep bench --json --data-dir /var/lib/lockstep > today.json`,
		Args: cobra.NoArgs,
		RunE: does(func(cmd *cobra.Command, _ []string) error {
			chosen, err := chooseWorks(works)
			if err != nil {
				return err
			}
			for name, n := range map[string]int{"clients": b.Clients, "subscribers": b.Subscribers, "objects": b.Objects} {
				if n < 1 {
					return usage{fmt.Errorf("--%s must be at least 1", name)}
				}
			}
			if b.Measure <= 0 {
				return usage{errors.New("--duration must be longer than nothing")}
			}
			a, err := t.access(cmd.Flags())
			if err != nil {
				return err
			}
			if !a.hasAccount() {
				return usage{fmt.Errorf("a load needs the account's SID and auth token, and %s has an API key only", a.name)}
			}
			b.Progress = newBenchProgress(cmd.ErrOrStderr())
			m, err := measure(cmd.Context(), a, to, &b, chosen)
			if len(m.Results) == 0 {
				return err
			}
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), m))
			}
			return errors.Join(err, m.print(cmd.OutOrStdout()))
		}),
	}
	t.flags(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&works, "work", nil, "kinds of work (default: all)")
	f.DurationVar(&b.Measure, "duration", 10*time.Second, "how long each is measured, after a second of warming up")
	f.IntVar(&b.Clients, "clients", 64, "clients that write or read at a time")
	f.IntVar(&b.Subscribers, "subscribers", 500, "clients that hear each message")
	f.IntVar(&b.Objects, "objects", 200, "documents that are written and read")
	f.StringSliceVar(&to, "to", nil, "URLs that the load goes to, for a proxy in front of the nodes (default: those that the nodes tell of themselves)")
	f.BoolVar(&asJSON, "json", false, "print JSON: nodes[], results[] with work, clients, seconds, operations, per_second, p50_ms, p99_ms, p999_ms, max_ms, limited, failed, first_error")
	return cmd
}

func aboutWorks() string {
	var b strings.Builder
	for _, w := range load.Works {
		fmt.Fprintf(&b, "  %-16s %s\n", w.Name, w.About)
	}
	return b.String()
}

func chooseWorks(names []string) ([]load.Work, error) {
	if len(names) == 0 {
		return load.Works, nil
	}
	var chosen []load.Work
	for _, name := range names {
		i := slices.IndexFunc(load.Works, func(w load.Work) bool { return w.Name == name })
		if i < 0 {
			return nil, usage{fmt.Errorf("--work: there is no %q", name)}
		}
		chosen = append(chosen, load.Works[i])
	}
	return chosen, nil
}

// measured is what `lockstep bench` has to tell.
type measured struct {
	Nodes   []string      `json:"nodes"` // URLs that the load went to
	Results []benchResult `json:"results"`
}

type benchResult struct {
	Work       string  `json:"work"`
	Clients    int     `json:"clients"`
	Seconds    float64 `json:"seconds"`
	Operations int64   `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms"`
	P999       float64 `json:"p999_ms"`
	Max        float64 `json:"max_ms"`
	Limited    int64   `json:"limited"` // refused by a rate limit
	Failed     int64   `json:"failed"`
	FirstError string  `json:"first_error,omitempty"`
}

// cleanUpTime bounds the removal of what the load made.
const cleanUpTime = 30 * time.Second

// measure does the work, and removes what it made, whatever happens.
func measure(ctx context.Context, a access, to []string, b *load.Bench, works []load.Work) (m measured, err error) {
	if m.Nodes, err = loadURLs(ctx, a.operator(), to); err != nil {
		return m, err
	}
	if b.Cluster, err = load.Open(ctx, a.operator(), m.Nodes, a.tls()); err != nil {
		return m, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
		defer cancel()
		err = errors.Join(err, b.Cluster.Close(ctx))
	}()
	for _, w := range works {
		r, err := b.Run(ctx, w)
		if ctx.Err() != nil {
			return m, errors.New("interrupted")
		}
		if err != nil {
			return m, fmt.Errorf("%s: %w", w.Name, err)
		}
		clients := b.Clients
		if w.Name == "fanout" {
			clients = b.Subscribers
		}
		m.Results = append(m.Results, benchResult{
			Work: w.Name, Clients: clients, Seconds: r.Elapsed.Seconds(), Operations: r.Operations, PerSecond: r.PerSecond(),
			P50: millis(r.Latency.P50), P99: millis(r.Latency.P99), P999: millis(r.Latency.P999), Max: millis(r.Latency.Max),
			Limited: r.Limited, Failed: r.Failed, FirstError: r.FirstError,
		})
	}
	return m, nil
}

// loadURLs returns where the load goes: to these, or to all nodes that serve.
func loadURLs(ctx context.Context, client *admin.Client, to []string) (urls []string, err error) {
	for _, u := range to {
		u = origin.Complete(u)
		if err := origin.Validate(u); err != nil {
			return nil, usage{fmt.Errorf("--to: %w", err)}
		}
		urls = append(urls, u)
	}
	if len(urls) > 0 {
		return urls, nil
	}
	s, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range s.Nodes {
		if n.Role != admin.RoleUnreachable && n.Problem == "" {
			urls = append(urls, n.HTTP)
		}
	}
	if len(urls) == 0 {
		return nil, errors.New("no node serves")
	}
	return urls, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (m measured) print(w io.Writer) error {
	t := newTable(w, "WORK", "CLIENTS", "DONE", "PER S", "P50 MS", "P99 MS", "P99.9 MS", "LONGEST MS", "LIMITED", "FAILED")
	for _, r := range m.Results {
		t.add(r.Work, fmt.Sprint(r.Clients), fmt.Sprint(r.Operations), fmt.Sprintf("%.0f", r.PerSecond), fmt.Sprintf("%.1f", r.P50), fmt.Sprintf("%.1f", r.P99),
			fmt.Sprintf("%.1f", r.P999), fmt.Sprintf("%.1f", r.Max), fmt.Sprint(r.Limited), fmt.Sprint(r.Failed))
	}
	if err := t.print(); err != nil {
		return err
	}
	for _, r := range m.Results {
		if r.Failed > 0 {
			fmt.Fprintf(w, "%s: %d failed; the first with: %s\n", r.Work, r.Failed, r.FirstError)
		}
	}
	for _, r := range m.Results {
		if r.Limited > 0 {
			fmt.Fprintf(w, "%s: rate limits refused %d (429): this is what they allow, not what the cluster can do (LOCKSTEP_RATE_LIMITS=off on its nodes)\n", r.Work, r.Limited)
		}
	}
	return nil
}
