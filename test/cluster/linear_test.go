package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

// call is one request to one document: the input of the model. Values are
// unique, so that a read says which write it saw.
type call struct {
	document int
	kind     callKind
	value    int // to write
	expected int // compareAndSet: the value whose revision If-Match names
}

type callKind string

const (
	read          callKind = "read"
	set           callKind = "set"
	compareAndSet callKind = "compare and set"
)

// outcome is what the model is told of the answer.
type outcome struct {
	value   int  // that was read
	refused bool // the precondition did not hold
	unknown bool // no answer, or 503: it happened, at some time, or not
}

// register is a document as a client may expect it to be: one place, one order.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byDocument := map[int][]porcupine.Operation{}
		for _, op := range history {
			d := op.Input.(call).document
			byDocument[d] = append(byDocument[d], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byDocument {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		value, in, out := state.(int), input.(call), output.(outcome)
		switch {
		case in.kind == read:
			return out.value == value, value
		case in.kind == set:
			return true, in.value
		case out.unknown && value == in.expected, !out.unknown && !out.refused && value == in.expected:
			return true, in.value
		case out.unknown, out.refused && value != in.expected:
			return true, value
		}
		return false, value
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
	DescribeState:     func(state any) string { return fmt.Sprint(state) },
}

// recorder makes random calls through random nodes and writes the history down.
type recorder struct {
	c     *harness.Cluster
	start time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	values  int
	odd     []string // answers that nobody expects
}

func (r *recorder) surprise(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.odd = append(r.odd, what)
}

const documents = 6

func document(d int) string { return fmt.Sprintf("/Documents/register-%d", d) }

func (r *recorder) newValue() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values++
	return r.values
}

func (r *recorder) record(client int, in call, called time.Time, out outcome) {
	op := porcupine.Operation{ClientId: client, Input: in, Call: called.Sub(r.start).Nanoseconds(), Output: out, Return: time.Since(r.start).Nanoseconds()}
	if out.unknown {
		op.Return = int64(1) << 62 // it may take effect whenever it likes
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, op)
}

// run makes calls until ctx ends. seen is what this client knows of each document.
func (r *recorder) run(ctx context.Context, client int, random *rand.Rand) {
	type sight struct {
		value    int
		revision string
	}
	seen := map[int]sight{}
	for ctx.Err() == nil {
		n := r.c.Nodes[random.IntN(len(r.c.Nodes))].REST()
		n.Timeout = time.Second
		in := call{document: random.IntN(documents), kind: read}
		method, form, header := http.MethodGet, url.Values(nil), []string(nil)
		if last, ok := seen[in.document]; random.IntN(2) == 0 {
			in.kind, in.value = set, r.newValue()
			method, form = http.MethodPost, url.Values{"Data": {fmt.Sprintf(`{"v":%d}`, in.value)}}
			if ok && random.IntN(2) == 0 {
				in.kind, in.expected = compareAndSet, last.value
				header = []string{"If-Match", last.revision}
			}
		}
		called := time.Now()
		// A call that was made is waited for, whatever ctx says.
		a, err := n.Do(context.Background(), method, document(in.document), form, header...)
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
			r.record(client, in, called, outcome{value: body.Data.V})
			seen[in.document] = sight{body.Data.V, body.Revision}
		case err == nil && a.Status == http.StatusPreconditionFailed:
			r.record(client, in, called, outcome{refused: true})
			delete(seen, in.document)
		case err == nil && a.Status != http.StatusServiceUnavailable:
			r.surprise(fmt.Sprintf("%+v: status %d: %s", in, a.Status, a.Body))
			return
		case in.kind != read:
			r.record(client, in, called, outcome{unknown: true})
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
	r := &recorder{c: c, start: time.Now()}
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
			t.Logf("%v: pause %s", time.Since(r.start), victim.ID)
			victim.Pause()
			r.more(t, 60)
			victim.Resume()
		} else {
			t.Logf("%v: kill %s", time.Since(r.start), victim.ID)
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

	result, info := porcupine.CheckOperationsVerbose(register, r.history, checkTime)
	t.Logf("%d operations: %s", len(r.history), result)
	if result != porcupine.Ok {
		path := filepath.Join(os.TempDir(), fmt.Sprintf("lockstep-history-%d.html", seed))
		require.NoError(t, porcupine.VisualizePath(register, info, path))
		t.Fatalf("the history is %s; see %s", result, path)
	}
}

// more waits until so many more calls were answered.
func (r *recorder) more(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.history)
	}
	want := count() + n
	harness.Until(t, "more calls are answered", func() error {
		if have := count(); have < want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// The check must be able to fail: a stale read, a lost write.
func TestTheModelFindsWhatIsWrong(t *testing.T) {
	op := func(in call, out outcome, called, returned int64) porcupine.Operation {
		return porcupine.Operation{Input: in, Output: out, Call: called, Return: returned}
	}
	write := op(call{kind: set, value: 1}, outcome{value: 1}, 0, 10)
	stale := op(call{kind: read}, outcome{value: 0}, 20, 30)
	fresh := op(call{kind: read}, outcome{value: 1}, 20, 30)
	during := op(call{kind: read}, outcome{value: 0}, 5, 30)
	require.True(t, porcupine.CheckOperations(register, []porcupine.Operation{write, fresh}))
	require.True(t, porcupine.CheckOperations(register, []porcupine.Operation{write, during}))
	require.False(t, porcupine.CheckOperations(register, []porcupine.Operation{write, stale}))

	unknown := op(call{kind: set, value: 2}, outcome{unknown: true}, 12, 1<<62)
	late := op(call{kind: read}, outcome{value: 2}, 40, 50)
	back := op(call{kind: read}, outcome{value: 1}, 60, 70)
	require.True(t, porcupine.CheckOperations(register, []porcupine.Operation{write, unknown, fresh, late}))
	require.False(t, porcupine.CheckOperations(register, []porcupine.Operation{write, unknown, late, back}))

	taken := op(call{kind: compareAndSet, expected: 0, value: 3}, outcome{value: 3}, 20, 30)
	refused := op(call{kind: compareAndSet, expected: 1, value: 3}, outcome{refused: true}, 20, 30)
	require.False(t, porcupine.CheckOperations(register, []porcupine.Operation{write, taken}))
	require.False(t, porcupine.CheckOperations(register, []porcupine.Operation{write, refused}))
}
