package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/validate"
)

// subscriber follows the list of the writers as an application does: through
// one node, and when that is gone, through the next one, from the last event on
// that it knows.
type subscriber struct {
	name  string
	sid   string
	urls  []string
	token string

	heard validate.Transcript
}

func (s *subscriber) run(ctx context.Context) {
	for node := 0; ctx.Err() == nil; node++ {
		r, err := harness.Connect(ctx, s.urls[node%len(s.urls)], s.token)
		if err != nil {
			time.Sleep(20 * time.Millisecond) // a dead node refuses at once
			continue
		}
		stop := context.AfterFunc(ctx, r.Close)
		s.follow(r)
		stop()
		r.Close()
	}
}

// follow listens until the connection breaks.
func (s *subscriber) follow(r *harness.Realtime) {
	s.heard.Returned()
	if r.Follow(s.sid, "list", s.heard.Last()) != nil {
		return
	}
	for {
		n, err := r.Next(time.Minute)
		if err != nil {
			return
		}
		s.note(n)
	}
}

func (s *subscriber) note(n harness.Notification) {
	var w write
	switch n.Type {
	case "subscription_established":
		s.heard.Established(n.Event.LastEvent)
	case "list_item_added":
		if err := json.Unmarshal(n.Event.ItemData, &w); err != nil {
			s.heard.Fault(err.Error())
		}
		s.heard.Heard(validate.Event{ID: n.Event.ID, Type: validate.Added, Key: w.name()})
	default:
		s.heard.Fault("heard " + n.Type)
	}
}

// caughtUp returns an error while the subscriber has not heard of so many writes.
func (s *subscriber) caughtUp(writes *validate.Writes) error {
	if last := s.heard.Last(); last < uint64(writes.Done()) {
		return fmt.Errorf("%s heard event %d of %d", s.name, last, writes.Done())
	}
	return nil
}

// check compares what the subscriber heard with all that happened, which is
// nothing but items that were added: each is an event of its own that nothing
// makes void.
func (s *subscriber) check() error {
	all := new(validate.Events)
	if err := s.heard.All(all.Add); err != nil {
		return err
	}
	if err := all.Through(1, s.heard.Last()); err != nil {
		return err
	}
	return s.heard.Check(all)
}

func startSubscribers(t *testing.T, c *harness.Cluster, perNode int) []*subscriber {
	t.Helper()
	sid, err := c.Nodes[0].REST().SID(t.Context(), "/Lists/writes")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	var all []*subscriber
	urls := c.URLs()
	for i := range perNode * len(urls) {
		first := i % len(urls)
		s := &subscriber{
			name: fmt.Sprint("subscriber ", i), sid: sid, token: c.Token(fmt.Sprint("subscriber", i)),
			urls: append(append([]string{}, urls[first:]...), urls[:first]...),
		}
		running.Go(func() { s.run(ctx) })
		all = append(all, s)
	}
	return all
}

// Every subscriber hears every change once and in order, whichever node is
// killed, or stopped in order, while the writes go on.
func TestSubscribersMissNothingWhenNodesDie(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	w := startWriters(t, c, 1)
	subscribers := startSubscribers(t, c, 2)
	w.more(t, 50)
	for _, end := range []struct {
		node *harness.Node
		how  func(*harness.Node)
	}{
		{c.Leader(), (*harness.Node).Kill9}, {c.Nodes[0], (*harness.Node).Stop}, {c.Nodes[1], (*harness.Node).Kill9}, {c.Nodes[2], (*harness.Node).Stop},
	} {
		end.how(end.node)
		w.more(t, 50)
		end.node.Restart()
		end.node.UntilReady()
		w.more(t, 20)
	}
	acknowledged := w.stop()
	moved, all := 0, new(validate.Events)
	for _, s := range subscribers {
		harness.Until(t, "all subscribers have heard everything", func() error { return s.caughtUp(acknowledged) })
		require.NoError(t, s.check(), s.name)
		heard := map[string]int{}
		require.NoError(t, s.heard.All(func(e validate.Event) error {
			heard[e.Key]++
			return all.Add(e)
		}), "nodes told of different events under one id")
		require.NoError(t, acknowledged.Stored(heard), s.name)
		moved += s.heard.Times() - 1
	}
	require.GreaterOrEqual(t, moved, len(subscribers), "every one of them lost its node")
	t.Logf("%d writes, %d subscribers, which had to find another node %d times", acknowledged.Done(), len(subscribers), moved)
}

// What is revoked through one node ends the subscriptions on all, and nothing
// that is written afterwards is heard.
func TestRevokedPermissionEndsSubscriptionsOnAllNodes(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	rest := c.Nodes[0].REST()
	ctx := t.Context()
	post := func(path string, pairs ...string) {
		t.Helper()
		_, err := rest.Post(ctx, path, harness.Form(pairs...))
		require.NoError(t, err, path)
	}
	post("", "AclEnabled", "true")
	post("/Maps", "UniqueName", "secrets")
	sid, err := rest.SID(ctx, "/Maps/secrets")
	require.NoError(t, err)
	allowed := []string{"Read", "true", "Write", "false", "Manage", "false"}

	var readers []*harness.Realtime
	for i, n := range c.Nodes {
		identity := fmt.Sprint("reader", i)
		r, err := harness.Connect(ctx, n.URL, c.Token(identity))
		require.NoError(t, err)
		defer r.Close()
		refused, err := r.Do("GET", "/v3/Maps/secrets", nil)
		require.NoError(t, err)
		require.Equal(t, 403, refused.Status)
		post("/Maps/secrets/Permissions/"+identity, allowed...)
		require.NoError(t, r.Follow(sid, "map", 0))
		first, err := r.Next(time.Minute)
		require.NoError(t, err)
		require.Equal(t, "subscription_established", first.Type)
		refused, err = r.Do("PUT", "/v3/Maps/secrets/Items/k", map[string]any{"data": 1})
		require.NoError(t, err)
		require.Equal(t, 403, refused.Status, "reading is not writing")
		readers = append(readers, r)
	}
	post("/Maps/secrets/Items", "Key", "k", "Data", "1")
	for i := range readers {
		_, err := rest.Do(ctx, "DELETE", fmt.Sprint("/Maps/secrets/Permissions/reader", i), nil)
		require.NoError(t, err)
	}
	post("/Maps/secrets/Items/k", "Data", "2")
	for i, r := range readers {
		added, err := r.Next(time.Minute)
		require.NoError(t, err)
		require.Equal(t, "map_item_added", added.Type)
		ended, err := r.Next(time.Minute)
		require.NoError(t, err)
		require.Equal(t, "subscription_failed", ended.Type, "reader %d", i)
		require.Equal(t, "null", string(ended.Correlation))
		require.Equal(t, 403, ended.Event.Error.Status)
		require.Equal(t, 54007, ended.Event.Error.Code)
		refused, err := r.Do("GET", "/v3/Maps/secrets/Items", nil)
		require.NoError(t, err)
		require.Equal(t, 403, refused.Status)
	}
}
