package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Work is a kind of load.
type Work struct {
	Name, About string
	run         func(*Bench, context.Context) (Result, error)
}

// Works are all kinds that there are.
var Works = []Work{
	{"writes", "documents updated by REST", (*Bench).writes},
	{"realtime-writes", "documents updated by the realtime protocol", (*Bench).realtimeWrites},
	{"reads", "documents read by REST, linearizably", (*Bench).reads},
	{"fanout", "messages of one stream delivered to all subscribers, who acknowledge each", (*Bench).fanout},
}

// Bench is a measurement of one cluster.
type Bench struct {
	Cluster       *Cluster
	Clients       int // of a closed loop
	Subscribers   int // of the stream
	Objects       int // documents that are written and read
	Warm, Measure time.Duration
	Progress      Progress

	documents []string
}

// Progress is told what goes on. Each step ends with a call of the function that was
// returned.
type Progress interface {
	// Count begins a step of which done of so many are done.
	Count(what string, of int, done *atomic.Int64) (end func())

	// Time begins a step of this length, in which operations are counted.
	Time(what string, length time.Duration, operations *atomic.Int64) (end func())
}

// Run does one kind of work.
func (b *Bench) Run(ctx context.Context, w Work) (Result, error) { return w.run(b, ctx) }

// prepare makes the documents, once.
func (b *Bench) prepare(ctx context.Context) (err error) {
	if b.documents != nil {
		return nil
	}
	var made atomic.Int64
	end := b.Progress.Count("making documents", b.Objects, &made)
	defer end()
	b.documents, err = b.Cluster.Documents(ctx, b.Objects, &made)
	return err
}

func (b *Bench) loop(ctx context.Context, name string, connect func() func(context.Context, int) (Client, error)) (Result, error) {
	if err := b.prepare(ctx); err != nil {
		return Result{}, err
	}
	var operations atomic.Int64
	end := b.Progress.Time(name, b.Warm+b.Measure, &operations)
	defer end()
	return Loop{Clients: b.Clients, Warm: b.Warm, Measure: b.Measure, Connect: connect(), Progress: &operations}.Run(ctx)
}

func (b *Bench) writes(ctx context.Context) (Result, error) {
	return b.loop(ctx, "writes", func() func(context.Context, int) (Client, error) { return b.Cluster.Writers("/Documents", b.documents) })
}

func (b *Bench) realtimeWrites(ctx context.Context) (Result, error) {
	return b.loop(ctx, "realtime-writes", func() func(context.Context, int) (Client, error) { return b.Cluster.RealtimeWriters(b.documents) })
}

func (b *Bench) reads(ctx context.Context) (Result, error) {
	return b.loop(ctx, "reads", func() func(context.Context, int) (Client, error) { return b.Cluster.Readers("/Documents", b.documents) })
}

// window is how many publications are under way at a time that not all subscribers
// have heard.
const window = 8

func (b *Bench) fanout(ctx context.Context) (_ Result, err error) {
	stream, err := b.Cluster.Stream(ctx)
	if err != nil {
		return Result{}, err
	}
	var meter Meter
	subscribers, err := b.subscribe(ctx, stream, &meter)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, subscribers.Close()) }()
	publisher, err := b.Cluster.Publisher(ctx, stream, &meter)
	if err != nil {
		return Result{}, fmt.Errorf("connect the publisher: %w", err)
	}
	defer func() { err = errors.Join(err, publisher.Close()) }()
	var heard atomic.Int64
	end := b.Progress.Time("fanout", b.Warm+b.Measure, &heard)
	defer end()
	return Fanout{
		Meter: &meter, Each: b.Subscribers, Window: window, Warm: b.Warm, Measure: b.Measure, Publish: publisher.Publish, Progress: &heard,
	}.Run(ctx)
}

func (b *Bench) subscribe(ctx context.Context, stream string, meter *Meter) (*Subscribers, error) {
	var established atomic.Int64
	end := b.Progress.Count("connecting subscribers", b.Subscribers, &established)
	defer end()
	return b.Cluster.Subscribe(ctx, Following{
		Kind: "stream", Objects: []string{stream}, Clients: b.Subscribers, Acknowledge: true, Progress: &established,
		Heard: func(_ int, payload []byte) int64 { return meter.Hear(payload) },
	})
}
