package console

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"lockstep/objects"
)

// What is not part of the replicated state is known by one node each: what it
// measures, what it refused or tried to deliver while it leads, its own backups. So
// nodes ask each other.

// askTimeout bounds the wait for one node's answer.
const askTimeout = time.Second

// The parts that can be asked for. They travel between nodes of different releases:
// a node that does not know one says so.
const (
	partSamples  = "samples"
	partRefusals = "refusals"
	partAttempts = "attempts"
	partHurry    = "hurry"
	partBackups  = "backups"
	partLogout   = "logout"
)

type question struct {
	Part     string `json:"part"`
	After    int64  `json:"after,omitempty"`    // of samples
	Delivery uint64 `json:"delivery,omitempty"` // to hurry
	Session  string `json:"session,omitempty"`  // to end
	Until    int64  `json:"until,omitempty"`    // when it would have ended
}

// told is an answer; it has what was asked for.
type told struct {
	Samples  []Sample     `json:"samples,omitempty"`
	Refusals []refusalRow `json:"refusals,omitempty"`
	Total    uint64       `json:"total,omitempty"` // of refusals
	Attempts []delivery   `json:"attempts,omitempty"`
	Hurried  bool         `json:"hurried,omitempty"`
	Backups  *Backups     `json:"backups,omitempty"`
}

// Answer answers what the console of another node asks.
func (c *Console) Answer(_ context.Context, body []byte) ([]byte, error) {
	var q question
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("console: read question: %w", err)
	}
	t, err := c.answer(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

func (c *Console) answer(q question) (t told, err error) {
	switch q.Part {
	case partSamples:
		t.Samples = c.sampler.after(q.After)
	case partRefusals:
		t.Refusals, t.Total = c.ownRefusals()
	case partAttempts:
		t.Attempts = c.ownAttempts()
	case partHurry:
		t.Hurried = c.Node.Hurry(q.Delivery)
	case partBackups:
		var b Backups
		b, err = c.Node.Backups()
		t.Backups = &b
	case partLogout:
		c.sessions.end(q.Session, q.Until, c.Clock())
	default:
		err = fmt.Errorf("console: this node does not know %q", q.Part)
	}
	return t, err
}

func (c *Console) ask(ctx context.Context, node string, q question) (t told, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return t, err
	}
	b, err := c.Node.Ask(ctx, node, body)
	if err == nil {
		err = json.Unmarshal(b, &t)
	}
	return t, err
}

// reply is what became of asking a node.
type reply struct {
	told
	err error
}

// askAll asks several nodes at a time.
func (c *Console) askAll(ctx context.Context, nodes []string, q question) map[string]reply {
	var mu sync.Mutex
	var asking sync.WaitGroup
	replies := make(map[string]reply, len(nodes))
	for _, node := range nodes {
		asking.Go(func() {
			t, err := c.ask(ctx, node, q)
			mu.Lock()
			defer mu.Unlock()
			replies[node] = reply{t, err}
		})
	}
	asking.Wait()
	return replies
}

// tellAll tells every member something. One that is not there need not know.
func (c *Console) tellAll(ctx context.Context, q question) {
	nodes, _, err := c.members(ctx)
	if err != nil {
		nodes = []string{c.Node.ID()}
	}
	c.askAll(ctx, nodes, q)
}

// members returns the ids of all nodes, and of the one that leads; empty if it is not
// known.
func (c *Console) members(ctx context.Context) (all []string, leader string, err error) {
	s, err := c.Node.Status(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, n := range s.Nodes {
		all = append(all, n.ID)
		if n.Role == "leader" {
			leader = n.ID
		}
	}
	return all, leader, nil
}

// askLeader asks the node that leads.
func (c *Console) askLeader(ctx context.Context, q question) (told, error) {
	_, leader, err := c.members(ctx)
	if err != nil {
		return told{}, err
	}
	if leader == "" {
		return told{}, objects.ErrUnavailable.With("No node leads at the moment")
	}
	t, err := c.ask(ctx, leader, q)
	if err != nil {
		return t, objects.ErrUnavailable.With("The leader %s does not answer: %v", leader, err)
	}
	return t, nil
}
