// Package webhook delivers the outbox: it sends the deliveries that the store has
// queued to the services' webhook URLs, signed, at least once, in order per object,
// and writes their outcomes to the store. It also reports clients that connect and
// leave to services that ask for it.
//
// A Sender runs on the node that leads, for the length of its term. Its Run owns
// every goroutine that it starts and waits for them. Nothing here can delay a
// write: the outbox is part of the replicated state, and bounded there.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/histogram"
	"lockstep/server/panics"
)

// Node is what this package needs of the cluster.
type Node interface {
	Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error)
	View() *fsm.View
	Wait(ctx context.Context, index uint64) (*fsm.View, error)
}

// Config sets up a Sender.
type Config struct {
	Node       Node
	Timeout    time.Duration // of one attempt; default 15 s
	Total      int           // requests under way; default 256
	PerService int           // of these, for one service; default 16
	PerHost    int           // and to one host; default 64

	// Allow returns networks that webhooks may reach although they are this
	// machine's, the local link's or a member's (see guard). It may be nil.
	Allow func() []netip.Prefix

	// Cluster returns host:port of the members' listeners, which webhooks never
	// reach. It may be nil.
	Cluster func() []string

	Clock      func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: not measured
	Panics     *panics.Catcher       // of attempts; nil: caught, and not told of
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	if c.Total == 0 {
		c.Total = 256
	}
	if c.PerService == 0 {
		c.PerService = 16
	}
	if c.PerHost == 0 {
		c.PerHost = 64
	}
	if c.Allow == nil {
		c.Allow = func() []netip.Prefix { return nil }
	}
	if c.Cluster == nil {
		c.Cluster = func() []string { return nil }
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// The waits after each failed attempt (rest-api, webhooks): the last one
// repeats until the delivery is a day old. A receiver that hangs is left alone
// for as long.
var backoff = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

const giveUpAfter = 24 * time.Hour

// Sender delivers webhooks.
type Sender struct {
	config   Config
	direct   *http.Client
	proxied  *http.Client // through the proxy of the environment, which decides itself where it connects
	attempts *prometheus.CounterVec
	took     prometheus.Histogram
	recent   recent
	hurried  chan uint64
	running  atomic.Bool
}

// New returns a Sender.
func New(config Config) *Sender {
	config = config.withDefaults()
	g := guard{allow: config.Allow, cluster: config.Cluster, own: net.InterfaceAddrs}
	s := &Sender{
		config:  config,
		hurried: make(chan uint64, hurryLength),
		direct:  client(config, &http.Transport{DialContext: g.dial}),
		proxied: client(config, &http.Transport{Proxy: http.ProxyFromEnvironment}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_webhook_attempts_total", Help: "Webhook requests sent, by outcome.",
		}, []string{"outcome"}),
		took: prometheus.NewHistogram(histogram.Seconds("lockstep_webhook_seconds", "Time of webhook requests, from the connection to the receiver's answer.")),
	}
	for _, outcome := range []string{"delivered", "failed", "given_up"} {
		s.attempts.WithLabelValues(outcome) // a rate needs a zero to begin with
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(s.attempts, s.took)
	}
	return s
}

func client(config Config, t *http.Transport) *http.Client {
	t.MaxIdleConnsPerHost, t.MaxIdleConns, t.IdleConnTimeout = config.PerService, config.Total, 90*time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{
		Timeout: config.Timeout, Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Run delivers until the context ends, and returns when every request under
// way has ended with it.
func (s *Sender) Run(ctx context.Context) {
	q := newQueue(s.config.Total, s.config.PerService, s.config.PerHost, s.receiver)
	arrived := make(chan *fsm.View)
	finished := make(chan outcome)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.watch(ctx, arrived)
	}()
	outcomes := newOutcomeWriter(s.config.Node, s.config.Logger)
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		outcomes.run(ctx)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	s.running.Store(true)
	defer s.running.Store(false)
	for ctx.Err() == nil {
		now := s.config.Clock() // the same for both, or a delivery that falls due in between is missed
		for _, a := range q.due(now) {
			go func() { finished <- s.attempt(ctx, a) }()
		}
		timer.Reset(q.untilDue(now))
		select {
		case v := <-arrived:
			q.add(v, s.config.Clock())
		case o := <-finished:
			q.finish(o, s.config.Clock())
			outcomes.put(ctx, o)
		case seq := <-s.hurried:
			q.hurry(seq, s.config.Clock())
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	for range q.underWay() {
		<-finished
	}
	<-watching
	<-writing
	s.direct.CloseIdleConnections()
	s.proxied.CloseIdleConnections()
}

// receiver returns the webhook URL of a service, or "" if it has none.
func (s *Sender) receiver(service uint64) string {
	if x, ok := s.config.Node.View().ServiceByNumber(service); ok {
		return x.WebhookURL
	}
	return ""
}

// watch passes on each view that has new deliveries.
func (s *Sender) watch(ctx context.Context, arrived chan<- *fsm.View) {
	view := s.config.Node.View()
	for seen := uint64(0); ; {
		if newest := view.NewestDelivery(); newest > seen {
			seen = newest
			select {
			case arrived <- view:
			case <-ctx.Done():
				return
			}
		}
		next, err := s.config.Node.Wait(ctx, view.Index()+1)
		if err != nil {
			return
		}
		view = next
	}
}

// attempt is one delivery to be sent once.
type attempt struct {
	delivery *fsm.Delivery
	unproven bool // the receiver did not answer promptly the last time
	hanging  bool // the receiver hung the last time
}

// outcome is the result of an attempt.
type outcome struct {
	attempt
	started time.Time
	retry   *fsm.Retry // nil: the delivery is finished
	hung    bool       // the answer, if any, came late
	skipped bool       // nothing was sent
}

// attempt sends one delivery once.
func (s *Sender) attempt(ctx context.Context, a attempt) outcome {
	d, started := a.delivery, s.config.Clock()
	o := outcome{attempt: a, started: started}
	view := s.config.Node.View()
	service, there := view.ServiceByNumber(d.Service)
	if _, waiting := view.Delivery(d.Seq); !waiting || !there || service.WebhookURL == "" {
		o.skipped = true // it has its outcome already, was dropped, or has no receiver any more
		return o
	}
	if a.hanging && started.Sub(time.UnixMilli(d.Created)) > giveUpAfter {
		o.skipped = true // it has waited for its turn for a day
		s.giveUp(service, d, d.Attempts, errHangs)
		return o
	}
	err := s.post(ctx, view, service, d)
	now, tries := s.config.Clock(), d.Attempts+1
	s.took.Observe(now.Sub(started).Seconds())
	o.hung = now.Sub(started) >= s.config.Timeout/3
	made := Attempt{Seq: d.Seq, Service: d.Service, Fact: d.Fact, At: started, Took: now.Sub(started), Number: tries}
	if err == nil {
		s.recent.add(made)
		s.attempts.WithLabelValues("delivered").Inc()
		return o
	}
	next := now.Add(backoff[min(tries, len(backoff))-1])
	made.Error, made.GivenUp = err.Error(), next.Sub(time.UnixMilli(d.Created)) > giveUpAfter
	s.recent.add(made)
	if made.GivenUp {
		s.giveUp(service, d, tries, err)
		return o
	}
	if ctx.Err() == nil {
		s.attempts.WithLabelValues("failed").Inc()
		s.config.Logger.Info("webhook failed", append(describe(service, d), "attempts", tries, "error", err)...)
	}
	o.retry = &fsm.Retry{Seq: d.Seq, Attempts: tries, NotBefore: next.UnixMilli()}
	return o
}

var errHangs = errors.New("its receiver hangs")

func (s *Sender) giveUp(service *objects.Service, d *fsm.Delivery, tries int, err error) {
	s.attempts.WithLabelValues("given_up").Inc()
	s.config.Logger.Warn("webhook given up", append(describe(service, d), "attempts", tries, "error", err)...)
}

// describe returns the log attributes of a delivery. Of its URL they name scheme and
// host only, because user, path and query may be secrets.
func describe(service *objects.Service, d *fsm.Delivery) []any {
	receiver := "?"
	if u, err := url.Parse(service.WebhookURL); err == nil {
		receiver = u.Scheme + "://" + u.Host
	}
	return []any{"service", service.SID, "receiver", receiver, "delivery", d.Seq}
}

func (s *Sender) post(ctx context.Context, view *fsm.View, service *objects.Service, d *fsm.Delivery) (err error) {
	defer s.config.Panics.Catch("webhook", func(fault error) { err = fault })
	req, err := request(ctx, view, service, d)
	if err != nil {
		return cause(err)
	}
	proxy, err := http.ProxyFromEnvironment(req)
	if err != nil {
		return errors.New("the proxy of the environment is not a URL")
	}
	client := s.direct
	if proxy != nil {
		client = s.proxied
	} else {
		spellAsConfigured(req.URL, service.WebhookURL)
	}
	resp, err := client.Do(req)
	if err != nil {
		return cause(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func request(ctx context.Context, view *fsm.View, service *objects.Service, d *fsm.Delivery) (*http.Request, error) {
	account, authToken := view.Account()
	params := params(account, service.SID, &d.Fact)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, service.WebhookURL, strings.NewReader(encode(params)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("User-Agent", "Lockstep")
	req.Header.Set("X-Twilio-Signature", sign(authToken, service.WebhookURL, params))
	req.Header.Set("I-Twilio-Idempotency-Token", fmt.Sprintf("%s-%d", view.ClusterID(), d.Seq))
	return req, nil
}

// spellAsConfigured makes the path on the wire the configured one, byte for
// byte: it is what was signed, and what a receiver verifies. Package url would
// encode characters such as "|" and "^".
func spellAsConfigured(u *url.URL, configured string) {
	_, rest, _ := strings.Cut(configured, "://")
	rest, _, _ = strings.Cut(withoutFragment(rest), "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 && rest[i:] != u.EscapedPath() && !strings.HasPrefix(rest[i:], "//") {
		u.Opaque = rest[i:]
	}
}

// cause returns an error without the URL that package http puts into it, which
// may hold secrets.
func cause(err error) error {
	for {
		wrapped, ok := errors.AsType[*url.Error](err)
		if !ok {
			return err
		}
		err = wrapped.Err
	}
}
