package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lockstep/cmd/lockstep/bench/internal/proc"
	"lockstep/cmd/lockstep/bench/internal/report"
	"lockstep/cmd/lockstep/internal/load"
)

// Broadcaster is a peer of one process that sends what is published over one
// websocket to all the others.
type Broadcaster struct {
	Title, Program     string
	Kind               byte   // of message: load.Text or load.Binary
	Row                string // of its tables
	Subscribe, Publish string // paths of the websockets

	Hello       []byte // makes a connection a subscriber; empty: it is one
	Subscribed  []byte // is in what a subscriber is told when it is one
	Introduce   []byte // makes a connection one that publishes; empty: it is one
	Ping, Pong  []byte // without white space, and what it is answered with; empty: there is none
	Publication func(n int) []byte

	// Start starts the servers. The default starts Program with -addr HOST:PORT.
	Start func(ctx context.Context, dir string) (origin string, pids []int, stop func() error, err error)
}

// Alone returns the peer that is nothing but the broadcaster.
func (b *Broadcaster) Alone() Peer { return alone{b} }

type alone struct{ *Broadcaster }

func (a alone) Name() string                              { return a.Title }
func (alone) Start(context.Context, string, string) error { return nil }
func (alone) Stop() error                                 { return nil }

// Rows are those of a Peer.
func (b *Broadcaster) Rows(scenario string) []Row {
	switch scenario {
	case "fanout":
		return []Row{{Name: b.Row, N: []int{1000, 5000}, Run: b.fanout}}
	case "idle":
		return []Row{{Name: b.Row, N: []int{5000}, Run: b.idle}}
	}
	return nil
}

// own runs something on a server of its own.
func (b *Broadcaster) own(ctx context.Context, o Options, do func(origin string, pids []int) (report.Metrics, error)) (_ report.Metrics, err error) {
	start := b.Start
	if start == nil {
		start = b.start
	}
	origin, pids, stop, err := start(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return do(origin, pids)
}

func (b *Broadcaster) start(ctx context.Context, dir string) (origin string, pids []int, stop func() error, err error) {
	port, err := proc.FreePorts(1)
	if err != nil {
		return "", nil, nil, err
	}
	program, err := proc.Program(b.Program)
	if err != nil {
		return "", nil, nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	p, err := proc.Start(dir, b.Title, program, nil, "-addr", addr)
	if err != nil {
		return "", nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := p.Until(ctx, proc.Listens(addr)); err != nil {
		return "", nil, nil, errors.Join(err, p.Stop())
	}
	return "http://" + addr, []int{p.PID()}, p.Stop, nil
}

func (b *Broadcaster) idle(ctx context.Context, n int, o Options) (report.Metrics, error) {
	return b.own(ctx, o, func(origin string, pids []int) (_ report.Metrics, err error) {
		var all listeners
		defer func() { err = errors.Join(err, all.close()) }()
		each, err := Growth(ctx, pids, n, func() error { return b.subscribe(ctx, origin, n, new(load.Meter), &all) })
		return report.Metrics{report.Each: each}, err
	})
}

func (b *Broadcaster) fanout(ctx context.Context, n int, o Options) (report.Metrics, error) {
	return b.own(ctx, o, func(origin string, pids []int) (_ report.Metrics, err error) {
		var all listeners
		defer func() { err = errors.Join(err, all.close()) }()
		var meter load.Meter
		if err := b.subscribe(ctx, origin, n, &meter, &all); err != nil {
			return nil, err
		}
		publisher, err := load.DialWebSocket(ctx, origin, b.Publish, nil)
		if err != nil {
			return nil, err
		}
		all.add(publisher, func() { b.listen(publisher, new(load.Meter), nil) })
		if len(b.Introduce) > 0 {
			if err := publisher.Write(b.Kind, b.Introduce); err != nil {
				return nil, err
			}
		}
		return Fanout(ctx, load.Fanout{Meter: &meter, Each: n, Publish: func(n int) error {
			return publisher.Write(b.Kind, b.Publication(n))
		}}, o, pids)
	})
}

// subscribe connects n subscribers.
func (b *Broadcaster) subscribe(ctx context.Context, origin string, n int, meter *load.Meter, all *listeners) error {
	return load.Parallel(ctx, 16, n, func(ctx context.Context, i int) error {
		conn, err := load.DialWebSocket(ctx, origin, b.Subscribe, nil)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		subscribed := make(chan error, 1)
		all.add(conn, func() { b.listen(conn, meter, subscribed) })
		if len(b.Hello) == 0 {
			return nil
		}
		if err := conn.Write(b.Kind, b.Hello); err != nil {
			return err
		}
		return <-subscribed
	})
}

// listen takes in what a connection is told, until it ends. subscribed, which may be
// nil, is told once whether that worked.
func (b *Broadcaster) listen(conn *load.WebSocket, meter *load.Meter, subscribed chan<- error) {
	for {
		message, err := conn.Read()
		switch {
		case err != nil:
		case meter.Hear(message) > 0:
			continue
		case len(b.Ping) > 0 && bytes.Equal(bytes.TrimSpace(message), b.Ping):
			err = conn.Write(b.Kind, b.Pong)
		}
		if subscribed != nil && (err != nil || bytes.Contains(message, b.Subscribed)) {
			subscribed <- err
			subscribed = nil
		}
		if err != nil {
			return
		}
	}
}

// listeners are connections with the goroutines that read from them.
type listeners struct {
	mu      sync.Mutex
	conns   []*load.WebSocket
	reading sync.WaitGroup
}

func (l *listeners) add(conn *load.WebSocket, read func()) {
	l.mu.Lock()
	l.conns = append(l.conns, conn)
	l.mu.Unlock()
	l.reading.Go(read)
}

func (l *listeners) close() error {
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, c.Close())
	}
	l.reading.Wait()
	return errors.Join(errs...)
}
