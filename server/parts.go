package server

import (
	"context"
	"net/http"
	"time"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/api"
	"lockstep/server/audit"
	"lockstep/server/budget"
	"lockstep/server/durablestreams"
	"lockstep/server/livequery"
	"lockstep/server/ratelimit"
	"lockstep/server/realtime"
	"lockstep/server/rest"
	"lockstep/server/trace"
	"lockstep/server/webhook"
)

// shared is what both protocols for clients use.
type shared struct {
	api     *api.API
	bodies  *budget.Budget // bytes of requests that are being read
	answers *budget.Budget // and of answers that wait to be taken
	audit   audit.Log
}

func newREST(n *node, p shared) http.Handler {
	c := n.config
	return rest.New(rest.Config{
		API: p.api, Keyring: n.keys, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies, Logger: c.Logger, Panics: n.metrics.panics, Answered: n.metrics.rest.answered, Trace: traced(n.tracer, "REST"),
		Audit: p.audit, Refused: func(ctx context.Context, source string) bool { return n.guard.Refused(ctx, "rest", source) },
		Bodies: p.bodies.Share(int64(c.Bounds.CredentialRequestBytes)),
	})
}

func newDurableStreams(n *node, p shared) *durablestreams.Handler {
	c := n.config
	return durablestreams.New(durablestreams.Config{
		API: p.api, Keyring: n.keys, Token: n.realtime.Admit, PublicURL: c.PublicURL, TrustedProxies: c.TrustedProxies,
		Hub: n.realtime.Hub(), View: n.store.View,
		LongPoll: c.Bounds.LongPoll, Waiting: c.Bounds.LiveReaders, WaitingOfEach: c.Bounds.LiveReadersPerIdentity,
		Logger: c.Logger, Clock: c.Clock, Panics: n.metrics.panics, Answered: n.metrics.durable.answered, Trace: traced(n.tracer, "durable"),
		Refused: func(ctx context.Context, source string) bool { return n.guard.Refused(ctx, "rest", source) },
		Bodies:  p.bodies.Share(int64(c.Bounds.CredentialRequestBytes)),
		Answers: p.answers.Share(int64(c.Bounds.IdentityAnswerBytes)),
	})
}

func newRealtime(n *node, p shared) *realtime.Server {
	c := n.config
	return realtime.New(realtime.Config{
		API: p.api, Node: n.store, Feed: n.cluster.FSM().Feed(), Keyring: n.keys,
		PublicURL: c.PublicURL, NodeURL: n.listener.url, NodeID: n.record.Copy().ID, TrustedProxies: c.TrustedProxies, Ready: n.cluster.Ready(),
		Connected: n.reporter.Connected, Disconnected: n.reporter.Disconnected,
		Refused: func(ctx context.Context, source string) { n.guard.Refused(ctx, "realtime", source) },
		Limits:  ratelimit.New[string](c.RateLimits.Burst), SessionRequests: c.RateLimits.Requests, Clock: c.Clock, Logger: c.Logger, Metrics: n.metrics.registry, Panics: n.metrics.panics,
		Answered: n.metrics.realtime.answered, SinceApplied: n.cluster.SinceApplied,
		Trace: traced(n.tracer, "realtime"), Follow: n.tracer.Propose, Told: told(n.tracer),

		Sessions: c.Bounds.Sessions, QueueLength: c.Bounds.QueueLength, QueueBytes: int(c.Bounds.QueueBytes),
		RequestsPerSession: c.Bounds.RequestsPerSession, InitTimeout: c.Bounds.InitTimeout,

		SessionsPerIdentity: c.Bounds.SessionsPerIdentity, SessionsPerSource: c.Bounds.SessionsPerSource,
		ConnectsPerIdentity: c.Bounds.ConnectsPerIdentity, ConnectsPerSource: c.Bounds.ConnectsPerSource,
		UnknownKeysPerSource: c.Bounds.UnknownKeysPerSource,
		Arrivals:             c.Bounds.Arrivals, ArrivalsPerSource: c.Bounds.ArrivalsPerSource,

		InitBytes: int64(c.Bounds.InitBytes), MessageBytes: int64(c.Bounds.MessageBytes), DiscardBytes: int64(c.Bounds.DiscardBytes),
		SessionByteRate: int64(c.Bounds.SessionByteRate), SessionRequestBytes: int64(c.Bounds.SessionRequestBytes),
		IdentityRequests: c.Bounds.IdentityRequests, FloodRefusals: c.Bounds.FloodRefusals,
		RequestBytes: p.bodies.Share(int64(c.Bounds.IdentityRequestBytes)),
		AnswerBytes:  p.answers.Share(int64(c.Bounds.IdentityAnswerBytes)),
		SlowBytes:    int64(c.Bounds.SlowBytes), SlowRate: int64(c.Bounds.SlowRate), SlowWindow: c.Bounds.SlowWindow,

		LiveQueries: livequery.Config{
			PerIdentity: c.Bounds.LiveQueriesPerIdentity, PerMap: c.Bounds.LiveQueriesPerMap, Total: c.Bounds.LiveQueries,
			BacklogLength: c.Bounds.LiveQueryBacklog, MapBacklogBytes: int64(c.Bounds.LiveQueryMapBytes),
			BacklogBytes: int64(c.Bounds.LiveQueryBytes), ResultBytes: int64(c.Bounds.LiveQueryResultBytes),
		},
	})
}

func newWebhooks(n *node) *webhook.Sender {
	c := n.config
	return webhook.New(webhook.Config{
		Node: n.store, Clock: c.Clock, Logger: c.Logger, Registerer: n.metrics.registry, Panics: n.metrics.panics,
		Allow: n.live.webhookAllow, Cluster: n.listeners,
		Timeout: c.Bounds.WebhookTimeout, Total: c.Bounds.WebhookRequests,
		PerService: c.Bounds.WebhookRequestsPerService, PerHost: c.Bounds.WebhookRequestsPerHost,
	})
}

// traced returns what begins the span of a request of a protocol; nil: tracing is off.
func traced(t *trace.Tracer, protocol string) func(ctx context.Context, method, traceparent string) (context.Context, func(int, *objects.Error)) {
	if t == nil {
		return nil
	}
	return func(ctx context.Context, method, traceparent string) (context.Context, func(int, *objects.Error)) {
		return t.Begin(ctx, protocol, method, traceparent)
	}
}

// told returns what is told of events that were handed to their subscribers, likewise.
func told(t *trace.Tracer) func(events []fsm.Event, begun, ended time.Time) {
	if t == nil {
		return nil
	}
	return t.Told
}
