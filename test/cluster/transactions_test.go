package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
	"lockstep/test/validate"
)

// accounts hold what is moved between them: whatever is read at one moment has
// the same sum, since a move takes from one and gives to another, or neither.
const (
	accounts = 5
	endowed  = 1000 // what an account has in the beginning
)

type operation struct {
	Method  string         `json:"method"`
	Path    string         `json:"path"`
	Params  map[string]any `json:"params"`
	IfMatch string         `json:"if_match,omitempty"`
}

type account struct {
	Key      string `json:"key"`
	Revision string `json:"revision"`
	Data     struct {
		Left int `json:"left"`
	} `json:"data"`
}

// move is what the journal says of one transaction.
type move struct {
	Name   string `json:"name"`
	From   string `json:"from"`
	To     string `json:"to"`
	Amount int    `json:"amount"`
}

// balances reads all accounts, as they are at one moment.
func balances(ctx context.Context, n *harness.REST) (map[string]account, error) {
	a, err := n.Get(ctx, "/Maps/accounts/Items")
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []account `json:"items"`
	}
	if err := a.Decode(&page); err != nil {
		return nil, err
	}
	all := map[string]account{}
	for _, i := range page.Items {
		all[i.Key] = i
	}
	return all, nil
}

func sum(of map[string]account) (total int) {
	for _, a := range of {
		total += a.Data.Left
	}
	return total
}

// operations take the amount from one account, give it to another, and write
// that down, each of the accounts being as it was read.
func (m move) operations(of map[string]account) url.Values {
	set := func(key string, left int) operation {
		return operation{http.MethodPost, "/Maps/accounts/Items/" + key, map[string]any{"Data": map[string]int{"left": left}}, of[key].Revision}
	}
	text, err := json.Marshal([]operation{
		set(m.From, of[m.From].Data.Left-m.Amount),
		{http.MethodPost, "/Lists/journal/Items", map[string]any{"Data": m}, ""},
		set(m.To, of[m.To].Data.Left+m.Amount),
	})
	if err != nil {
		panic(err) // plain values
	}
	return url.Values{"Operations": {string(text)}}
}

// movers make moves through all nodes, each under its idempotency key again and
// again until it is known whether it was carried out.
type movers struct {
	c     *harness.Cluster
	moves validate.Writes

	mu    sync.Mutex
	wrong []string // what nobody expects
}

func (w *movers) surprise(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

func (w *movers) run(ctx context.Context, id int, random *rand.Rand) {
	node := func() *harness.REST {
		n := w.c.Nodes[random.IntN(len(w.c.Nodes))].REST()
		n.Timeout = 3 * time.Second
		return n
	}
	for i := 0; ctx.Err() == nil; i++ {
		of, err := balances(context.Background(), node())
		if err != nil {
			time.Sleep(10 * time.Millisecond) // a dead node refuses at once
			continue
		}
		if sum(of) != accounts*endowed {
			w.surprise("a part of a transaction is seen: %v", of)
			return
		}
		from := random.IntN(accounts)
		to := (from + 1 + random.IntN(accounts-1)) % accounts
		w.carryOut(move{fmt.Sprintf("%d-%d", id, i), fmt.Sprint(from), fmt.Sprint(to), 1 + random.IntN(9)}, of, node)
	}
}

func (w *movers) carryOut(m move, of map[string]account, node func() *harness.REST) {
	w.moves.Note(m.Name, validate.Unknown)
	form := m.operations(of)
	for start := time.Now(); time.Since(start) < time.Minute; {
		a, err := node().Do(context.Background(), http.MethodPost, "/Transactions", form, "Idempotency-Key", m.Name)
		switch {
		case err == nil && a.Status == http.StatusOK:
			w.moves.Note(m.Name, validate.Done)
			return
		case err == nil && a.Status == http.StatusPreconditionFailed:
			w.moves.Note(m.Name, validate.Failed) // another one was first
			return
		case err == nil && a.Status != http.StatusServiceUnavailable:
			w.surprise("%+v: status %d: %s", m, a.Status, a.Body)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// more waits until so many more moves were made.
func (w *movers) more(t *testing.T, n int) {
	t.Helper()
	moreOf(t, "moves are made", n, w.moves.Done)
}

// Money is moved between accounts by transactions while leaders die: no reader
// ever sees half a move, each acknowledged one was made once, and none that was
// refused.
func TestTransactionsAreWholeWhileLeadersDie(t *testing.T) {
	c := harness.Start(t, harness.Config{})
	first := c.Nodes[0].REST()
	for _, made := range []struct {
		path string
		form url.Values
	}{
		{"/Maps", url.Values{"UniqueName": {"accounts"}}},
		{"/Lists", url.Values{"UniqueName": {"journal"}}},
	} {
		_, err := first.Post(t.Context(), made.path, made.form)
		require.NoError(t, err)
	}
	for i := range accounts {
		_, err := first.Post(t.Context(), "/Maps/accounts/Items", url.Values{"Key": {fmt.Sprint(i)}, "Data": {fmt.Sprintf(`{"left":%d}`, endowed)}})
		require.NoError(t, err)
	}

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &movers{c: c}
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { w.run(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	defer func() { cancel(); clients.Wait() }()
	for range 3 {
		w.more(t, 40)
		victim := c.Leader()
		victim.Kill9()
		w.more(t, 40)
		victim.Restart()
		victim.UntilReady()
	}
	cancel()
	clients.Wait()
	require.Empty(t, w.wrong)

	of, err := balances(t.Context(), first)
	require.NoError(t, err)
	pages, err := first.Pages(t.Context(), "/Lists/journal/Items?PageSize=100")
	require.NoError(t, err)
	found, left := map[string]int{}, map[string]int{}
	for _, p := range pages {
		var page struct {
			Items []struct {
				Data move `json:"data"`
			} `json:"items"`
		}
		require.NoError(t, p.Decode(&page))
		for _, i := range page.Items {
			found[i.Data.Name]++
			left[i.Data.From] -= i.Data.Amount
			left[i.Data.To] += i.Data.Amount
		}
	}
	require.NoError(t, w.moves.Stored(found))
	for key, a := range of {
		require.Equal(t, endowed+left[key], a.Data.Left, "what the journal says of account %s", key)
	}
	t.Logf("%d moves", w.moves.Done())
	requireOneState(t, c)
}
