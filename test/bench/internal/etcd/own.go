package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"lockstep/cmd/lockstep/bench/internal/peer"
	"lockstep/cmd/lockstep/bench/internal/report"
)

// own runs something on a cluster of its own.
func own(ctx context.Context, o peer.Options, do func(*cluster) (report.Metrics, error)) (_ report.Metrics, err error) {
	c, err := start(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	return do(c)
}

// watch has n keys watched on a follower, over some connections, and puts them by
// the leader.
func watch(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
	return own(ctx, o, func(c *cluster) (_ report.Metrics, err error) {
		const connections = 50
		clients, err := c.clients(connections, func(int) int { return (c.leader + 1) % members })
		if err != nil {
			return nil, err
		}
		writer, err := c.client(c.leader)
		if err != nil {
			return nil, errors.Join(err, closeAll(clients))
		}
		var watchers sync.WaitGroup
		ctx, cancel := context.WithCancel(ctx)
		defer func() {
			cancel()
			watchers.Wait()
			err = errors.Join(err, closeAll(append(clients, writer)))
		}()
		w := peer.NewWatch(n)
		for i := range n {
			events := clients[i%connections].Watch(ctx, key(i), clientv3.WithCreatedNotify())
			if r, ok := <-events; !ok || !r.Created {
				return nil, fmt.Errorf("watch %d is not created: %w", i, r.Err())
			}
			watchers.Go(func() {
				for r := range events {
					for _, e := range r.Events {
						w.Hear(i, e.Kv.Value)
					}
				}
			})
		}
		return w.Run(ctx, o, c.pids(), func(ctx context.Context, i int, data []byte) error {
			_, err := writer.Put(ctx, key(i), string(data))
			return err
		})
	})
}

// failover kills the leader again and again.
func failover(ctx context.Context, _ int, o peer.Options) (report.Metrics, error) {
	return own(ctx, o, func(c *cluster) (report.Metrics, error) {
		var outages []time.Duration
		for range o.Kills {
			d, err := c.kill(ctx)
			if err != nil {
				return nil, err
			}
			outages = append(outages, d)
		}
		return peer.Outages(outages), nil
	})
}

// kill kills the leader, measures, and brings the member back.
func (c *cluster) kill(ctx context.Context) (outage time.Duration, err error) {
	if err := c.findLeader(ctx); err != nil {
		return 0, err
	}
	clients, err := c.clients(members, func(i int) int { return i })
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, closeAll(clients)) }()
	for i := range 100 * members {
		if err := put(ctx, clients[i%members], i); err != nil {
			return 0, err
		}
	}
	killed := c.leader
	outage, err = peer.Outage(ctx, c.processes[killed].Kill, func(ctx context.Context, n int) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return put(ctx, clients[(killed+1+n%2)%members], n)
	})
	if err != nil {
		return 0, err
	}
	return outage, c.restart(ctx, killed)
}

func (c *cluster) restart(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := c.startMember(i); err != nil {
		return err
	}
	return c.untilReady(ctx, i)
}

// million puts n keys, and restarts a member.
func million(ctx context.Context, n int, o peer.Options) (report.Metrics, error) {
	return own(ctx, o, func(c *cluster) (report.Metrics, error) {
		begin := time.Now()
		if err := c.fill(ctx, n); err != nil {
			return nil, err
		}
		m := report.Metrics{"made_per_s": float64(n) / time.Since(begin).Seconds()}
		var err error
		if m[report.RSS], err = peer.Memory(ctx, c.pids()); err != nil {
			return nil, err
		}
		follower := (c.leader + 1) % members
		if err := c.processes[follower].Stop(); err != nil {
			return nil, err
		}
		begin = time.Now()
		if err := c.restart(ctx, follower); err != nil {
			return nil, err
		}
		m["ready_ms"] = peer.Millis(time.Since(begin))
		return m, nil
	})
}
