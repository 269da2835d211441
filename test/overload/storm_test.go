//go:build load

package overload

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/test/harness"
)

const (
	clients   = 10_000 // of the node that is lost
	addresses = 50     // that they come from: no more of them than one may have
	documents = 100    // that they follow
	backTime  = 5 * time.Second
)

// follower is a client that follows a document, and comes back to another node when
// it loses the one that it is on.
type follower struct {
	from     net.Addr
	token    string
	document string
}

// follow connects and subscribes.
func (f *follower) follow(ctx context.Context, url string) (*harness.Realtime, error) {
	r, err := harness.ConnectFrom(ctx, f.from, url, f.token)
	if err != nil {
		return nil, err
	}
	err = r.Follow(f.document, "document", 0)
	var n harness.Notification
	for err == nil && n.Type != "subscription_established" {
		n, err = r.Next(10 * time.Second)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// again follows until it does, with the pauses of a client that was turned away.
func (f *follower) again(ctx context.Context, urls []string) (*harness.Realtime, error) {
	for i := rand.IntN(len(urls)); ; i++ {
		r, err := f.follow(ctx, urls[i%len(urls)])
		if err == nil {
			return r, nil
		}
		select {
		case <-time.After(200*time.Millisecond + rand.N(300*time.Millisecond)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// A node dies that ten thousand clients are on. All of them are back on the others
// soon, and a client that was there before hardly notices.
func TestClientsOfALostNodeAreBack(t *testing.T) {
	c := harness.Start(t, harness.Config{Env: []string{"LOCKSTEP_RATE_LIMITS=default"}})
	lost := c.Follower()
	var others []string
	for _, n := range c.Nodes {
		if n != lost {
			others = append(others, n.URL)
		}
	}
	var sids []string
	for i := range documents {
		_, err := lost.REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", fmt.Sprint("d", i)))
		require.NoError(t, err)
		sid, err := lost.REST().SID(t.Context(), fmt.Sprint("/Documents/d", i))
		require.NoError(t, err)
		sids = append(sids, sid)
	}
	followers := make([]*follower, clients)
	for i := range followers {
		followers[i] = &follower{
			from:  &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%addresses))},
			token: c.Token(fmt.Sprint("client-", i)), document: sids[i%documents],
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()

	bystander := startBystander(t, c, others[0])
	c.Favour(bystander.PID)
	time.Sleep(2 * time.Second)
	t.Logf("bystander's writes while nothing happens: p99 %v", bystander.ask(t))

	begin := time.Now()
	sessions := each(t, followers, 64, func(f *follower) (*harness.Realtime, error) { return f.again(ctx, []string{lost.URL}) })
	t.Logf("%d clients connected in %v; bystander's writes meanwhile: p99 %v", clients, time.Since(begin).Round(time.Millisecond), bystander.ask(t))

	begin = time.Now()
	lost.Kill9()
	for _, r := range sessions {
		r.Close()
	}
	var mu sync.Mutex
	var took []time.Duration
	back := each(t, followers, clients, func(f *follower) (*harness.Realtime, error) {
		r, err := f.again(ctx, others)
		mu.Lock()
		took = append(took, time.Since(begin))
		mu.Unlock()
		return r, err
	})
	defer func() {
		for _, r := range back {
			r.Close()
		}
	}()
	slices.Sort(took)
	t.Logf("back: half in %v, 99%% in %v, all in %v", took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	meanwhile := bystander.ask(t)
	t.Logf("bystander's writes meanwhile: p99 %v", meanwhile)
	require.Less(t, took[len(took)-1], backTime)
	require.Less(t, meanwhile, time.Second)
}

// each does one thing for all, some at a time.
func each(t *testing.T, all []*follower, atOnce int, do func(*follower) (*harness.Realtime, error)) []*harness.Realtime {
	t.Helper()
	out, errs := make([]*harness.Realtime, len(all)), make([]error, len(all))
	slots := make(chan struct{}, atOnce)
	var work sync.WaitGroup
	for i, f := range all {
		slots <- struct{}{}
		work.Go(func() {
			out[i], errs[i] = do(f)
			<-slots
		})
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return out
}

// bystanderVariable holds the URL of a bystander's node and its token, in the
// environment of its process.
const bystanderVariable = "OVERLOAD_BYSTANDER"

// runBystander is the whole life of a client of another node that writes all the
// time. It has a process of its own, so that only the nodes make it wait. For each
// line that it reads it says how long 99 of 100 writes took at most since the last.
func runBystander(text string) {
	url, token, _ := strings.Cut(text, " ")
	r, err := harness.Connect(context.Background(), url, token)
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	var took []time.Duration
	go func() {
		for due := time.Now(); ; due = due.Add(100 * time.Millisecond) {
			time.Sleep(time.Until(due))
			a, err := r.Do("POST", "/v3/Documents/bystander", map[string]any{"data": map[string]any{"x": strings.Repeat("y", 100)}})
			if err == nil {
				err = a.Err()
			}
			if err != nil {
				panic(err)
			}
			mu.Lock()
			took = append(took, time.Since(due))
			mu.Unlock()
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		mu.Lock()
		slices.Sort(took)
		var p99 time.Duration
		if len(took) > 0 {
			p99 = took[len(took)*99/100]
		}
		took = nil
		mu.Unlock()
		fmt.Println(p99.Round(time.Millisecond))
	}
}

// bystander is its process.
type bystander struct{ *harness.Self }

func startBystander(t *testing.T, c *harness.Cluster, url string) bystander {
	t.Helper()
	_, err := c.Nodes[0].REST().Post(t.Context(), "/Documents", harness.Form("UniqueName", "bystander"))
	require.NoError(t, err)
	return bystander{harness.StartSelf(t, bystanderVariable+"="+url+" "+c.Token("bystander"))}
}

func (b bystander) ask(t *testing.T) time.Duration {
	t.Helper()
	took, err := time.ParseDuration(strings.TrimSpace(string(b.Ask())))
	require.NoError(t, err)
	return took
}
