package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/validate"
)

// recorder makes random calls through random nodes and writes the history down.
type recorder struct {
	c       *harness.Cluster
	history validate.History
	values  atomic.Int64

	mu  sync.Mutex
	odd []string // answers that nobody expects
}

func (r *recorder) surprise(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.odd = append(r.odd, what)
}

const documents = 6

func document(d int) string { return fmt.Sprintf("/Documents/register-%d", d) }

// run makes calls until ctx ends. seen is what this client knows of each document.
func (r *recorder) run(ctx context.Context, client int, random *rand.Rand) {
	type sight struct {
		value    int
		revision string
	}
	seen := map[string]sight{}
	for ctx.Err() == nil {
		n := r.c.Nodes[random.IntN(len(r.c.Nodes))].REST()
		n.Timeout = time.Second
		in := validate.Call{Object: document(random.IntN(documents)), Kind: validate.Read}
		method, form, header := http.MethodGet, url.Values(nil), []string(nil)
		if last, ok := seen[in.Object]; random.IntN(2) == 0 {
			in.Kind, in.Value = validate.Set, int(r.values.Add(1))
			method, form = http.MethodPost, url.Values{"Data": {fmt.Sprintf(`{"v":%d}`, in.Value)}}
			if ok && random.IntN(2) == 0 {
				in.Kind, in.Expected = validate.CompareAndSet, last.value
				header = []string{"If-Match", last.revision}
			}
		}
		began := r.history.Begin()
		// A call that was made is waited for, whatever ctx says.
		a, err := n.Do(context.Background(), method, in.Object, form, header...)
		var body struct {
			Revision string `json:"revision"`
			Data     struct {
				V int `json:"v"`
			} `json:"data"`
		}
		if err == nil && a.Status == http.StatusOK {
			err = json.Unmarshal(a.Body, &body)
		}
		switch {
		case err == nil && a.Status == http.StatusOK:
			r.history.End(client, in, began, validate.Outcome{Value: body.Data.V})
			seen[in.Object] = sight{body.Data.V, body.Revision}
		case err == nil && a.Status == http.StatusPreconditionFailed:
			r.history.End(client, in, began, validate.Outcome{Refused: true})
			delete(seen, in.Object)
		case err == nil && a.Status != http.StatusServiceUnavailable:
			r.surprise(fmt.Sprintf("%+v: status %d: %s", in, a.Status, a.Body))
			return
		case in.Kind != validate.Read:
			r.history.End(client, in, began, validate.Outcome{Unknown: true})
			// A node that is down refuses at once; without a pause, calls that
			// say nothing would be all that there is.
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// checkTime bounds the search for an order that explains a history.
const checkTime = time.Minute

func TestLinearizable(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	for d := range documents {
		_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", url.Values{"UniqueName": {fmt.Sprintf("register-%d", d)}, "Data": {`{"v":0}`}})
		require.NoError(t, err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r, start := &recorder{c: c}, time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { r.run(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	defer func() { cancel(); clients.Wait() }()

	random := rand.New(rand.NewPCG(seed, 99))
	for range 4 {
		r.more(t, 100)
		victim := c.Nodes[random.IntN(len(c.Nodes))]
		if random.IntN(2) == 0 {
			t.Logf("%v: pause %s", time.Since(start), victim.ID)
			victim.Pause()
			r.more(t, 60)
			victim.Resume()
		} else {
			t.Logf("%v: kill %s", time.Since(start), victim.ID)
			victim.Kill9()
			r.more(t, 100)
			victim.Restart()
		}
		victim.UntilReady()
	}
	r.more(t, 100)
	cancel()
	clients.Wait()
	require.Empty(t, r.odd)

	t.Logf("%d calls", r.history.Len())
	require.NoError(t, r.history.Linearizable(checkTime))
	requireOneState(t, c)
}

// more waits until so many more calls were answered.
func (r *recorder) more(t *testing.T, n int) {
	t.Helper()
	moreOf(t, "calls are answered", n, r.history.Len)
}
