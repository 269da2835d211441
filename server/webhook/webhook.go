// Package webhook delivers the outbox: it sends what the store has queued for
// the services' webhook URLs, signed, at least once, in order per object, and
// tells the store what became of it. It also reports which clients connect and
// leave, for services that want to hear of it.
//
// A Sender runs on whichever node leads, for the length of its term. Its Run
// owns every goroutine it starts and waits for them. Nothing here can delay a
// write: the outbox is part of the replicated state, and bounded there.
package webhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/fsm"
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
	Clock      func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: not measured
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
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// The waits after each failed attempt (rest-api, webhooks): the last one
// repeats until the delivery is a day old.
var backoff = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

const giveUpAfter = 24 * time.Hour

// Sender delivers webhooks.
type Sender struct {
	config   Config
	client   *http.Client
	attempts *prometheus.CounterVec
}

// New makes a Sender.
func New(config Config) *Sender {
	config = config.withDefaults()
	s := &Sender{
		config: config,
		client: &http.Client{
			Timeout:       config.Timeout,
			Transport:     &http.Transport{MaxIdleConnsPerHost: config.PerService, IdleConnTimeout: 90 * time.Second, Proxy: http.ProxyFromEnvironment},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_webhook_attempts_total", Help: "Webhook requests sent, by outcome.",
		}, []string{"outcome"}),
	}
	if config.Registerer != nil {
		config.Registerer.MustRegister(s.attempts)
	}
	return s
}

// Run delivers until the context ends, and returns when every request under
// way has ended with it.
func (s *Sender) Run(ctx context.Context) {
	q := newQueue(s.config.Total, s.config.PerService)
	arrived := make(chan *fsm.View)
	finished := make(chan outcome)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		s.watch(ctx, arrived)
	}()
	settler := newSettler(s.config.Node, s.config.Logger)
	settling := make(chan struct{})
	go func() {
		defer close(settling)
		settler.run(ctx)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		now := s.config.Clock() // one moment for both: between two, what is due could fall
		for _, d := range q.due(now) {
			go func() { finished <- s.attempt(ctx, d) }()
		}
		timer.Reset(q.untilDue(now))
		select {
		case v := <-arrived:
			q.add(v)
		case o := <-finished:
			q.finish(o)
			settler.put(ctx, o)
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	for range q.underWay() {
		<-finished
	}
	<-watching
	<-settling
	s.client.CloseIdleConnections()
}

// watch passes on each view that has deliveries the one before had not.
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

// outcome is what became of one attempt.
type outcome struct {
	delivery *fsm.Delivery
	retry    *fsm.Retry // nil: done with it
}

// attempt sends one delivery once.
func (s *Sender) attempt(ctx context.Context, d *fsm.Delivery) outcome {
	view := s.config.Node.View()
	if _, waiting := view.Delivery(d.Seq); !waiting {
		return outcome{delivery: d} // it is settled, was given up, or its service is gone
	}
	err := s.post(ctx, view, d)
	if err == nil {
		s.attempts.WithLabelValues("delivered").Inc()
		return outcome{delivery: d}
	}
	now, tries := s.config.Clock(), d.Attempts+1
	next := now.Add(backoff[min(tries, len(backoff))-1])
	if next.Sub(time.UnixMilli(d.Created)) > giveUpAfter {
		s.attempts.WithLabelValues("given_up").Inc()
		s.config.Logger.Warn("webhook given up", "url", redacted(d.URL), "delivery", d.Seq, "attempts", tries, "error", err)
		return outcome{delivery: d}
	}
	if ctx.Err() == nil {
		s.attempts.WithLabelValues("failed").Inc()
		s.config.Logger.Info("webhook failed", "url", redacted(d.URL), "delivery", d.Seq, "attempts", tries, "error", err)
	}
	return outcome{delivery: d, retry: &fsm.Retry{Seq: d.Seq, Attempts: tries, NotBefore: next.UnixMilli()}}
}

func (s *Sender) post(ctx context.Context, view *fsm.View, d *fsm.Delivery) error {
	form := make(url.Values, len(d.Params))
	for _, p := range d.Params {
		form.Set(p.Name, p.Value)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	_, authToken := view.Account()
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	req.Header.Set("User-Agent", "Lockstep")
	req.Header.Set("X-Twilio-Signature", sign(authToken, d.URL, d.Params))
	req.Header.Set("I-Twilio-Idempotency-Token", fmt.Sprintf("%s-%d", view.ClusterID(), d.Seq))
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// redacted leaves out of a URL what may be secret.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "?"
	}
	return u.Scheme + "://" + u.Host + u.Path
}
