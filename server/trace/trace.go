// Package trace follows requests through the node and its cluster, by OpenTelemetry,
// and sends what it sees to a collector by OTLP over HTTP.
//
// Where a request goes, its context has its span, and its command, once it has one,
// is known by its id: so other packages need to know nothing of tracing but when to
// ask. Nothing of it is done, and nothing allocated, unless it is switched on; a
// request that is not sampled costs a lookup.
package trace

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"lockstep/cluster"
	"lockstep/cluster/loglimit"
	"lockstep/fsm"
	"lockstep/objects"
)

// Config sets up a Tracer.
type Config struct {
	// URL is that of the collector, http://host:4318; /v1/traces is added where it has
	// no path.
	URL string

	// Sample is the share of requests that are followed, from 0 to 1, of those whose
	// client has not decided it (traceparent).
	Sample float64

	Node, Version string
	Logger        *slog.Logger
}

// Validate says what is wrong with an address and a share, in terms of the flags of
// `lockstep serve`.
func Validate(address string, sample float64) error {
	if !(sample >= 0 && sample <= 1) {
		return fmt.Errorf("--trace-sample: %v is not a share from 0 to 1", sample)
	}
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("--trace-otlp: %q is not the URL of a collector, such as http://localhost:4318", address)
	}
	return nil
}

// kept is how many commands a node knows the spans of, at most: those of the newest.
const kept = 4096

// Tracer follows requests. Its methods may be called by any goroutine, and on a nil
// Tracer, which follows none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer

	followed atomic.Int64 // commands that are known; 0: nobody needs to look

	mu       sync.Mutex
	commands map[fsm.CommandID]cluster.Span
	order    []fsm.CommandID // in which they came
}

// New returns a Tracer, which Close ends. It connects to nothing before there is
// something to send.
func New(c Config) (*Tracer, error) {
	address, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	if strings.Trim(address.Path, "/") == "" {
		address.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(address.String()), otlptracehttp.WithTimeout(5*time.Second))
	if err != nil {
		return nil, err
	}
	return newTracer(c, loud{exporter, loglimit.New(c.Logger)}), nil
}

// loud is an exporter whose failures are logged: the library would tell them to the
// process's own log.
type loud struct {
	sdk.SpanExporter
	log *slog.Logger
}

// ExportSpans implements the SDK's SpanExporter. What could not be sent is lost.
func (l loud) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil && l.log != nil {
		l.log.Warn("traces not sent", "error", err)
	}
	return nil
}

func newTracer(c Config, exporter sdk.SpanExporter) *Tracer {
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(exporter, sdk.WithMaxQueueSize(4096), sdk.WithBatchTimeout(time.Second)), // beyond which spans are dropped
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(c.Sample))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "lockstep"), attribute.String("service.version", c.Version), attribute.String("service.instance.id", c.Node))),
	)
	return &Tracer{provider: provider, tracer: provider.Tracer("lockstep"), commands: make(map[fsm.CommandID]cluster.Span)}
}

// Close sends what waits, as long as the context allows, and ends all goroutines.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Begin begins the span of a client's request, within the trace that its traceparent
// (W3C) names, if any. The function that is returned ends it; it is nil, and so is all
// that follows, if the request is not followed.
func (t *Tracer) Begin(ctx context.Context, protocol, method, traceparent string) (context.Context, func(status int, refused *objects.Error)) {
	if t == nil {
		return ctx, nil
	}
	if traceparent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
	}
	ctx, span := t.tracer.Start(ctx, protocol+" "+method, trace.WithSpanKind(trace.SpanKindServer))
	if !span.IsRecording() {
		return ctx, nil
	}
	return ctx, func(status int, refused *objects.Error) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if refused != nil {
			span.SetAttributes(attribute.Int("lockstep.code", refused.Code))
		}
		if status >= 500 {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Propose begins the span of a write, by whose command other parts of the cluster
// find it. The function that is returned ends it; it is nil if the request is not
// followed, or its command is already.
func (t *Tracer) Propose(ctx context.Context, id fsm.CommandID) func(failed error) {
	if t == nil || !trace.SpanContextFromContext(ctx).IsSampled() || t.Of(id) != nil {
		return nil
	}
	_, span := t.tracer.Start(ctx, "propose")
	t.follow(id, encode(span.SpanContext()))
	return func(failed error) {
		if failed != nil {
			span.SetStatus(codes.Error, "no answer")
		}
		span.End()
	}
}

func (t *Tracer) follow(id fsm.CommandID, s cluster.Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.commands[id]; !known {
		if len(t.order) >= kept {
			delete(t.commands, t.order[0])
			t.order = t.order[1:]
		}
		t.order = append(t.order, id)
	}
	t.commands[id] = s
	t.followed.Store(int64(len(t.commands)))
}

// Of implements cluster.Tracer.
func (t *Tracer) Of(id fsm.CommandID) *cluster.Span {
	if t.followed.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.commands[id]; ok {
		return &s
	}
	return nil
}

// Record implements cluster.Tracer.
func (t *Tracer) Record(parent *cluster.Span, name string, begun, ended time.Time) {
	of := decode(*parent)
	if !of.IsValid() {
		return
	}
	_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), of), name, trace.WithTimestamp(begun))
	span.End(trace.WithTimestamp(ended))
}

// Told records that the events of a round were in the queues of their subscribers, for
// each of its commands that is followed here.
func (t *Tracer) Told(events []fsm.Event, begun, ended time.Time) {
	if t == nil || t.followed.Load() == 0 {
		return
	}
	var last fsm.CommandID
	for i := range events {
		id := events[i].Origin
		if id == last {
			continue
		}
		last = id
		if s := t.Of(id); s != nil {
			t.Record(s, "fan-out", begun, ended)
		}
	}
}

// encode and decode are the form of a span between nodes: trace, span, flags.
func encode(c trace.SpanContext) (s cluster.Span) {
	trace, span := c.TraceID(), c.SpanID()
	copy(s[:16], trace[:])
	copy(s[16:24], span[:])
	s[24] = byte(c.TraceFlags())
	return s
}

func decode(s cluster.Span) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(s[:16]), SpanID: trace.SpanID(s[16:24]), TraceFlags: trace.TraceFlags(s[24]), Remote: true,
	})
}
