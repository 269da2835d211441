package trace

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"lockstep/fsm"
	"lockstep/objects"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	sampled     = "00-" + traceID + "-00f067aa0ba902b7-01"
	unsampled   = "00-" + traceID + "-00f067aa0ba902b7-00"
	noSuchTrace = "00-nonsense"
)

// follow makes a tracer that keeps what it records.
func follow(t *testing.T, sample float64) (*Tracer, *tracetest.InMemoryExporter) {
	kept := tracetest.NewInMemoryExporter()
	tracer := newTracer(Config{Sample: sample, Node: "one"}, kept)
	t.Cleanup(func() { require.NoError(t, tracer.Close(context.Background())) })
	return tracer, kept
}

func TestRequestIsFollowedAsItsClientHasDecided(t *testing.T) {
	never, kept := follow(t, 0)
	for _, parent := range []string{"", unsampled, noSuchTrace} {
		_, end := never.Begin(t.Context(), "REST", "GET", parent)
		require.Nil(t, end, parent)
	}
	_, end := never.Begin(t.Context(), "REST", "GET", sampled)
	require.NotNil(t, end)
	end(404, objects.ErrNotFound)
	require.NoError(t, never.provider.ForceFlush(t.Context()))
	spans := kept.GetSpans()
	require.Len(t, spans, 1)
	require.Equal(t, "REST GET", spans[0].Name)
	require.Equal(t, traceID, spans[0].SpanContext.TraceID().String())

	always, _ := follow(t, 1)
	_, end = always.Begin(t.Context(), "REST", "GET", "")
	require.NotNil(t, end)
	_, end = always.Begin(t.Context(), "REST", "GET", unsampled)
	require.Nil(t, end)
}

func TestCommandIsFoundByItsID(t *testing.T) {
	tracer, kept := follow(t, 0)
	ctx, end := tracer.Begin(t.Context(), "REST", "POST", sampled)
	id := fsm.CommandID{1}
	require.Nil(t, tracer.Of(id))
	proposed := tracer.Propose(ctx, id)
	require.NotNil(t, proposed)
	require.Nil(t, tracer.Propose(ctx, id), "once")
	require.Nil(t, tracer.Propose(t.Context(), fsm.CommandID{2}), "of no request that is followed")
	span := tracer.Of(id)
	require.NotNil(t, span)
	now := time.Now()
	tracer.Record(span, "commit", now, now.Add(time.Second))
	tracer.Told([]fsm.Event{{Origin: id}, {Origin: id}, {Origin: fsm.CommandID{3}}}, now, now)
	proposed(errors.New("no leader"))
	end(503, objects.ErrUnavailable)
	require.NoError(t, tracer.provider.ForceFlush(t.Context()))
	parents, byName := map[string]string{}, map[string]tracetest.SpanStub{}
	for _, s := range kept.GetSpans() {
		require.Equal(t, traceID, s.SpanContext.TraceID().String())
		require.NotContains(t, byName, s.Name)
		byName[s.Name], parents[s.SpanContext.SpanID().String()] = s, s.Name
	}
	require.Len(t, byName, 4)
	for name, parent := range map[string]string{"propose": "REST POST", "commit": "propose", "fan-out": "propose"} {
		require.Equal(t, parent, parents[byName[name].Parent.SpanID().String()], name)
	}
	require.Equal(t, time.Second, byName["commit"].EndTime.Sub(byName["commit"].StartTime))
}

func TestFollowedCommandsAreBounded(t *testing.T) {
	tracer, _ := follow(t, 1)
	ctx, end := tracer.Begin(t.Context(), "REST", "POST", "")
	defer end(200, nil)
	for i := range 2 * kept {
		tracer.Propose(ctx, fsm.CommandID{byte(i), byte(i >> 8), byte(i >> 16), 1})(nil)
	}
	require.Len(t, tracer.commands, kept)
	require.Nil(t, tracer.Of(fsm.CommandID{0, 0, 0, 1}), "the oldest is forgotten")
}

func TestTracingThatIsOffCostsNothing(t *testing.T) {
	var off *Tracer
	events := []fsm.Event{{Origin: fsm.CommandID{1}}}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, end := off.Begin(t.Context(), "REST", "GET", sampled)
		if end != nil || off.Propose(t.Context(), fsm.CommandID{1}) != nil {
			panic("followed")
		}
		off.Told(events, time.Time{}, time.Time{})
	}))
	require.NoError(t, off.Close(context.Background()))
}

func TestSettingsAreChecked(t *testing.T) {
	require.NoError(t, Validate("", 0.01))
	require.NoError(t, Validate("http://localhost:4318", 1))
	require.ErrorContains(t, Validate("localhost:4318", 1), "--trace-otlp")
	require.ErrorContains(t, Validate("http://localhost:4318", 1.5), "--trace-sample")
}
