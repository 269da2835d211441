package api_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
)

func TestWhatIsWrittenComesBackComplete(t *testing.T) {
	a, _ := start()
	ctx := context.Background()
	d, err := a.CreateObject(ctx, system, objects.KindDocument, api.Create{Name: new("d"), Data: []byte(` {"a": 1}`), TTL: new(int64(60))})
	require.NoError(t, err)
	require.Equal(t, `{"a":1}`, string(d.Data))
	require.Equal(t, d.Created+60_000, d.Expires)
	require.Equal(t, "{}", string(create(t, a, objects.KindDocument, "").Data))
	require.Nil(t, create(t, a, objects.KindMap, "m").Data)

	d, err = a.UpdateObject(ctx, system, objects.KindDocument, name("d"), api.Update{Data: []byte(`[ ]`), IfMatch: "0"})
	require.NoError(t, err)
	require.Equal(t, "[]", string(d.Data))
	d, err = a.UpdateObject(ctx, system, objects.KindDocument, name("d"), api.Update{TTL: new(int64(0))})
	require.NoError(t, err)
	require.Equal(t, "[]", string(d.Data))
	found, err := a.FetchObject(ctx, system, objects.KindDocument, name("d"))
	require.NoError(t, err)
	require.Equal(t, d, found.Object)
	require.Equal(t, fsmtest.Service, found.Service.SID)

	w := put(t, a, name("m"), "k", ` 17`)
	require.True(t, w.Created)
	require.Equal(t, "17", string(w.Item.Data))
	require.EqualValues(t, 1, w.Object.EventID)
	w, err = a.WriteItem(ctx, system, objects.KindMap, name("m"), api.ItemWrite{Mode: fsm.UpdateItem, Key: key("k"), TTL: new(int64(60))})
	require.NoError(t, err)
	require.False(t, w.Created)
	require.Equal(t, "17", string(w.Item.Data))
	_, i, err := a.FetchItem(ctx, system, objects.KindMap, name("m"), key("k"))
	require.NoError(t, err)
	require.Equal(t, w.Item, i)

	w, err = a.RemoveItem(ctx, system, objects.KindMap, name("m"), key("k"), objects.Precondition{})
	require.NoError(t, err)
	require.Nil(t, w.Item.Data)
	require.EqualValues(t, 2, w.Item.EventID)

	create(t, a, objects.KindStream, "s")
	sid, data, err := a.Publish(ctx, system, name("s"), []byte(`{ "x" : 1 }`))
	require.NoError(t, err)
	require.Equal(t, objects.KindMessage, sid.Kind())
	require.Equal(t, `{"x":1}`, string(data))
}

func TestContextOfAList(t *testing.T) {
	a, _ := start()
	l, err := a.CreateObject(context.Background(), alice, objects.KindList, api.Create{Data: []byte(`{ "c" : 1 }`)})
	require.NoError(t, err)
	require.Equal(t, `{"c":1}`, string(l.Data))
	l, err = a.UpdateObject(context.Background(), alice, objects.KindList, fsm.Ref{SID: l.SID}, api.Update{Data: []byte(`2`), IfMatch: "of documents only"})
	require.NoError(t, err)
	require.Equal(t, "2", string(l.Data))
}

func TestParametersAreChecked(t *testing.T) {
	a, n := start()
	ctx := context.Background()
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap, objects.KindStream} {
		create(t, a, kind, "it")
	}
	doc, list, mapping, stream := objects.KindDocument, objects.KindList, objects.KindMap, objects.KindStream
	created := func(c api.Create) error { _, err := a.CreateObject(ctx, system, doc, c); return err }
	updated := func(k objects.Kind, u api.Update) error {
		_, err := a.UpdateObject(ctx, system, k, name("it"), u)
		return err
	}
	written := func(k objects.Kind, w api.ItemWrite) error {
		_, err := a.WriteItem(ctx, system, k, name("it"), w)
		return err
	}
	published := func(data []byte) error { _, _, err := a.Publish(ctx, system, name("it"), data); return err }
	changed := func(u fsm.UpdateService) error { _, err := a.UpdateService(ctx, system, &u); return err }
	made := func(u fsm.UpdateService) error { _, err := a.CreateService(ctx, system, &u); return err }
	long := strings.Repeat("x", 400)
	proposals := len(n.proposed)
	for i, x := range []struct{ got, want error }{
		{created(api.Create{Name: new("")}), objects.ErrName},
		{created(api.Create{Data: []byte("{")}), objects.ErrData},
		{created(api.Create{TTL: new(int64(-1))}), objects.ErrTTL},
		{updated(doc, api.Update{}), objects.ErrNothingToDo},
		{updated(doc, api.Update{Data: []byte("null")}), objects.ErrDocumentNull},
		{updated(doc, api.Update{Data: []byte("1"), IfMatch: "x"}), objects.ErrRevision},
		{updated(stream, api.Update{TTL: new(int64(objects.MaxTTLSeconds + 1))}), objects.ErrTTL},
		{written(list, api.ItemWrite{Mode: fsm.AppendItem}), objects.ErrListItemNull},
		{written(list, api.ItemWrite{Mode: fsm.UpdateItem}), objects.ErrNothingToDo},
		{written(list, api.ItemWrite{Mode: fsm.AppendItem, Data: []byte("1"), TTL: new(int64(-1))}), objects.ErrTTL},
		{written(mapping, api.ItemWrite{Mode: fsm.PutItem, Key: key("k"), CollectionTTL: new(int64(1))}), objects.ErrNothingToDo},
		{written(mapping, api.ItemWrite{Mode: fsm.AddItem, Key: key("k"), Data: []byte("1"), CollectionTTL: new(int64(-1))}), objects.ErrTTL},
		{written(mapping, api.ItemWrite{Mode: fsm.AddItem, Data: []byte("1")}), objects.ErrMapItemKey},
		{written(mapping, api.ItemWrite{Mode: fsm.PutItem, Key: key(long), Data: []byte("1")}), objects.ErrMapItemKey},
		{written(mapping, api.ItemWrite{Mode: fsm.UpdateItem, Key: key(long), Data: []byte("1")}), objects.ErrMapItemGone},
		{written(mapping, api.ItemWrite{Mode: fsm.AddItem, Key: key("k"), Data: []byte("{")}), objects.ErrData},
		{published(nil), objects.ErrMessageNull},
		{published([]byte(`"` + strings.Repeat("x", objects.MaxMessage) + `"`)), objects.ErrTooLarge},
		{changed(fsm.UpdateService{FriendlyName: new("")}), objects.ErrFriendlyName},
		{changed(fsm.UpdateService{WebhookURL: new("x")}), objects.ErrWebhookURL},
		{made(fsm.UpdateService{DebounceWindow: new(int64(objects.MinDebounce - 1))}), objects.ErrParameter},
		{made(fsm.UpdateService{DebounceWindow: new(int64(objects.MaxDebounce + 1))}), objects.ErrParameter},
		{a.RemovePermission(ctx, system, doc, name("it"), ""), objects.ErrIdentity},
	} {
		require.ErrorIs(t, x.got, x.want, "case %d", i)
	}
	_, err := a.RemoveItem(ctx, system, mapping, name("it"), key(long), objects.Precondition{})
	require.ErrorIs(t, err, objects.ErrMapItemGone)
	require.Len(t, n.proposed, proposals, "nothing of this reaches the log")
}

func TestWhatDoesNotExist(t *testing.T) {
	a, _ := start()
	ctx := context.Background()
	for what, err := range everything(ctx, a, unknownService, name("it")) {
		require.ErrorIs(t, err, objects.ErrServiceGone, what)
	}
	for what, err := range ofService(ctx, a, unknownService) {
		require.ErrorIs(t, err, objects.ErrServiceGone, what)
	}
	for what, err := range ofService(ctx, a, api.Caller{Service: name("none")}) {
		require.ErrorIs(t, err, objects.ErrServiceGone, what)
	}
	for what, err := range everything(ctx, a, system, name("it")) {
		var e *objects.Error
		require.ErrorAs(t, err, &e, what)
		require.Equal(t, 404, e.Status, what)
	}
	require.ErrorIs(t, a.Refuse(ctx, unknownService, objects.KindNone, fsm.Ref{}, objects.Read, objects.ErrTTL), objects.ErrServiceGone)
	require.ErrorIs(t, a.Refuse(ctx, system, objects.KindMap, name("it"), objects.Read, objects.ErrTTL), objects.ErrNameGone)
	require.ErrorIs(t, a.Refuse(ctx, system, objects.KindMap, fsm.Ref{SID: objects.NewSID(objects.KindMap, [16]byte{9})}, objects.Read, objects.ErrTTL), objects.ErrMapGone)
	require.ErrorIs(t, a.Refuse(ctx, system, objects.KindNone, fsm.Ref{}, objects.Read, objects.ErrTTL), objects.ErrTTL)
	create(t, a, objects.KindMap, "it")
	require.ErrorIs(t, a.Refuse(ctx, system, objects.KindMap, name("it"), objects.Read, objects.ErrTTL), objects.ErrTTL)
}

func TestLaggingNodeKnowsDefaultService(t *testing.T) {
	a, n := start()
	n.view = fsm.New(fsm.Config{}).View()
	d := create(t, a, objects.KindDocument, "d")
	require.Equal(t, fsmtest.Service, d.ServiceSID)
	_, err := a.FetchObject(context.Background(), system, objects.KindDocument, name("d"))
	require.NoError(t, err)
}

type limited struct{ wait time.Duration }

func (limited) Error() string               { return "limited" }
func (l limited) RetryAfter() time.Duration { return l.wait }

func TestFailuresBecomeAnswers(t *testing.T) {
	a, n := start()
	ctx := context.Background()
	n.failure = errors.New("no leader")
	all := everything(ctx, a, alice, name("it"))
	for what, err := range ofService(ctx, a, alice) {
		all[what] = err
	}
	_, all["list services"] = a.ListServices(ctx, system, fsm.Span[uint64]{Limit: 1})
	_, all["create service"] = a.CreateService(ctx, system, &fsm.UpdateService{})
	for what, err := range all {
		require.ErrorIs(t, err, objects.ErrUnavailable, what)
		require.ErrorIs(t, err, n.failure, what)
	}

	n.failure = fmt.Errorf("%w: a queue is full", objects.ErrOverloaded)
	for what, err := range everything(ctx, a, alice, name("it")) {
		var e *objects.Error
		require.ErrorAs(t, err, &e, what)
		require.Equal(t, objects.ErrOverloaded, e, what)
	}

	n.failure = nil
	sid := create(t, a, objects.KindDocument, "limited").SID
	for wait, seconds := range map[time.Duration]int{0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2} {
		n.failure = fmt.Errorf("wrapped: %w", limited{wait})
		_, err := a.FetchObject(ctx, system, objects.KindDocument, fsm.Ref{SID: sid})
		var e *objects.Error
		require.ErrorAs(t, err, &e)
		require.ErrorIs(t, err, objects.ErrRate)
		require.Equal(t, seconds, e.RetryAfter)
		require.Equal(t, "Rate limit exceeded for read-document-"+sid.String(), e.Message)
	}
}

func TestReadsAreChargedToTheObject(t *testing.T) {
	a, n := start()
	ctx := context.Background()
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap, objects.KindStream} {
		o := create(t, a, kind, "it")
		for _, ref := range []fsm.Ref{name("it"), {SID: o.SID}} {
			n.buckets = nil
			_, err := a.FetchObject(ctx, system, kind, ref)
			require.NoError(t, err)
			require.Equal(t, []objects.Bucket{{Class: objects.BucketReads, SID: o.SID}}, n.buckets)
			n.buckets = nil
			_, err = a.FetchObject(ctx, alice, kind, ref)
			require.NoError(t, err)
			require.Equal(t, []objects.Bucket{{Class: objects.BucketReads, SID: o.SID, Identity: "alice"}}, n.buckets)
		}
	}
	m := create(t, a, objects.KindMap, "m")
	n.buckets = nil
	_, _, err := a.FetchItem(ctx, system, objects.KindMap, name("m"), key("k"))
	require.ErrorIs(t, err, objects.ErrMapItemGone)
	_, err = a.ListItems(ctx, system, objects.KindMap, name("m"), fsm.Range{Limit: 1})
	require.NoError(t, err)
	_, _, err = a.FetchPermission(ctx, system, objects.KindMap, name("m"), "bob")
	require.ErrorIs(t, err, objects.ErrPermissionGone)
	_, _, err = a.ListPermissions(ctx, system, objects.KindMap, fsm.Ref{SID: m.SID}, fsm.Span[string]{Limit: 1})
	require.NoError(t, err)
	_, _, err = a.ListObjects(ctx, system, objects.KindMap, fsm.Span[uint64]{Limit: 1})
	require.NoError(t, err)
	_, err = a.FetchObject(ctx, system, objects.KindMap, name("none"))
	require.ErrorIs(t, err, objects.ErrNameGone)
	_, err = a.FetchIndex(ctx, alice, name("m"))
	require.NoError(t, err)
	of := func(class objects.BucketClass) objects.Bucket { return objects.Bucket{Class: class, SID: m.SID} }
	missed := objects.Bucket{Class: objects.BucketMisses, SID: fsmtest.Service}
	require.Equal(t, []objects.Bucket{
		of(objects.BucketReads), of(objects.BucketReads), of(objects.BucketPermissionReads), of(objects.BucketPermissionReads),
		{}, missed, {Class: objects.BucketQueries, SID: m.SID, Identity: "alice"},
	}, n.buckets)

	// What is not in the caller's service drains nobody's bucket.
	second, err := a.CreateService(ctx, system, &fsm.UpdateService{})
	require.NoError(t, err)
	n.buckets = nil
	elsewhere := api.Caller{Service: fsm.Ref{SID: second.SID}}
	_, err = a.FetchObject(ctx, elsewhere, objects.KindMap, fsm.Ref{SID: m.SID})
	require.ErrorIs(t, err, objects.ErrMapGone)
	_, err = a.FetchObject(ctx, system, objects.KindMap, fsm.Ref{SID: objects.NewSID(objects.KindMap, [16]byte{9})})
	require.ErrorIs(t, err, objects.ErrMapGone)
	require.Equal(t, []objects.Bucket{{Class: objects.BucketMisses, SID: second.SID}, missed}, n.buckets)

	// Nor what is in none.
	n.buckets = nil
	_, err = a.FetchObject(ctx, unknownService, objects.KindMap, name("m"))
	require.ErrorIs(t, err, objects.ErrServiceGone)
	_, _, err = a.ListObjects(ctx, unknownService, objects.KindMap, fsm.Span[uint64]{Limit: 1})
	require.ErrorIs(t, err, objects.ErrServiceGone)
	require.Equal(t, []objects.Bucket{{Class: objects.BucketMisses}, {Class: objects.BucketMisses}}, n.buckets)
}

// The choice between a 400 and a 404 must not be a round for nothing.
func TestMalformedRequestsAreNoFreeReads(t *testing.T) {
	a, n := start()
	ctx := context.Background()
	create(t, a, objects.KindMap, "m")
	lagging := n.Node.View()
	create(t, a, objects.KindMap, "new")
	refuse := func(c api.Caller, kind objects.Kind, ref fsm.Ref) error {
		n.buckets = nil
		return a.Refuse(ctx, c, kind, ref, objects.Write, objects.ErrTTL)
	}
	require.ErrorIs(t, refuse(system, objects.KindMap, name("m")), objects.ErrTTL)
	require.Empty(t, n.buckets)
	require.ErrorIs(t, refuse(system, objects.KindNone, fsm.Ref{}), objects.ErrTTL)
	require.Empty(t, n.buckets)
	require.ErrorIs(t, refuse(alice, objects.KindMap, name("none")), objects.ErrNameGone)
	require.Equal(t, []objects.Bucket{{Class: objects.BucketMisses, SID: fsmtest.Service, Identity: "alice"}}, n.buckets)
	require.ErrorIs(t, refuse(unknownService, objects.KindMap, name("m")), objects.ErrServiceGone)
	require.Equal(t, []objects.Bucket{{Class: objects.BucketMisses}}, n.buckets)

	n.view = lagging
	require.ErrorIs(t, refuse(system, objects.KindMap, name("new")), objects.ErrTTL, "another node has it already")
	require.Len(t, n.buckets, 1)
	n.failure = &limited{2 * time.Second}
	require.ErrorIs(t, refuse(system, objects.KindMap, name("none")), objects.ErrRate)
}

func TestReadingNeedsPermission(t *testing.T) {
	a, _ := start()
	ctx := context.Background()
	_, err := a.UpdateService(ctx, system, &fsm.UpdateService{ACLEnabled: new(true)})
	require.NoError(t, err)
	create(t, a, objects.KindMap, "m")
	put(t, a, name("m"), "k", "1")
	reads := func(c api.Caller) []error {
		_, fetch := a.FetchObject(ctx, c, objects.KindMap, name("m"))
		_, _, item := a.FetchItem(ctx, c, objects.KindMap, name("m"), key("k"))
		_, query := a.ListItems(ctx, c, objects.KindMap, name("m"), fsm.Range{Limit: 1})
		return []error{fetch, item, query}
	}
	for _, err := range reads(alice) {
		require.ErrorIs(t, err, objects.ErrForbidden)
	}
	for _, err := range reads(system) {
		require.NoError(t, err)
	}
	_, _, err = a.SetPermission(ctx, system, objects.KindMap, name("m"), "alice", objects.Read)
	require.NoError(t, err)
	for _, err := range reads(alice) {
		require.NoError(t, err)
	}
	_, err = a.WriteItem(ctx, alice, objects.KindMap, name("m"), api.ItemWrite{Mode: fsm.PutItem, Key: key("k"), Data: []byte("2")})
	require.ErrorIs(t, err, objects.ErrForbidden)
}

func TestKeyedWritesHappenOnce(t *testing.T) {
	a, n := start()
	ctx := context.Background()
	other := api.New(n) // another node, for what this package keeps
	d := create(t, a, objects.KindDocument, "d")
	create(t, a, objects.KindList, "l")
	keyed := system
	keyed.Key, keyed.Scope, keyed.Fingerprint = "k", "AC1", [16]byte{1}
	appended := func(a *api.API, c api.Caller) (api.Written, error) {
		return a.WriteItem(ctx, c, objects.KindList, name("l"), api.ItemWrite{Mode: fsm.AppendItem, Data: []byte("1")})
	}
	first, err := appended(a, keyed)
	require.NoError(t, err)
	again, err := appended(other, keyed)
	require.NoError(t, err)
	require.Equal(t, first, again)

	for what, change := range map[string]func(*api.Caller){
		"another key":   func(c *api.Caller) { c.Key = "k2" },
		"another scope": func(c *api.Caller) { c.Scope = "SK1" },
		"none":          func(c *api.Caller) { c.Key = "" },
	} {
		c := keyed
		change(&c)
		w, err := appended(a, c)
		require.NoError(t, err, what)
		require.Greater(t, w.Item.Index, first.Item.Index, what)
	}
	c := keyed
	c.Fingerprint = [16]byte{2}
	_, err = appended(a, c)
	require.ErrorIs(t, err, objects.ErrMoreThanOnce)

	// The answer to a change of the TTL has the data also when repeated.
	keyed.Key = "ttl"
	for range 2 {
		o, err := a.UpdateObject(ctx, keyed, objects.KindDocument, fsm.Ref{SID: d.SID}, api.Update{TTL: new(int64(60))})
		require.NoError(t, err)
		require.Equal(t, "{}", string(o.Data))
	}
	_, err = a.RemoveObject(ctx, system, objects.KindDocument, name("d"))
	require.NoError(t, err)
	o, err := a.UpdateObject(ctx, keyed, objects.KindDocument, fsm.Ref{SID: d.SID}, api.Update{TTL: new(int64(60))})
	require.NoError(t, err)
	require.Equal(t, d.SID, o.SID)
	keyed.Key = "item ttl"
	for range 2 {
		w, err := a.WriteItem(ctx, keyed, objects.KindList, name("l"), api.ItemWrite{Mode: fsm.UpdateItem, TTL: new(int64(60))})
		require.NoError(t, err)
		require.Equal(t, "1", string(w.Item.Data))
	}
}

func TestCallerProposesItsCommands(t *testing.T) {
	a, n := start()
	var told []fsm.CommandID
	c := alice
	c.Propose = func(ctx context.Context, command *fsm.Command) (*fsm.Result, error) {
		require.Len(t, n.proposed, len(told), "told before it is proposed")
		told = append(told, command.ID)
		return n.Propose(ctx, command)
	}
	for range 2 {
		_, err := a.CreateObject(context.Background(), c, objects.KindDocument, api.Create{})
		require.NoError(t, err)
	}
	require.Len(t, n.proposed, 2)
	for i, command := range n.proposed {
		require.Equal(t, told[i], command.ID)
		require.Equal(t, alice.Actor, command.Actor)
		require.False(t, command.ClientChosen)
	}
	require.NotEqual(t, told[0], told[1])
}

func TestServices(t *testing.T) {
	a, _ := start()
	ctx := context.Background()
	s, err := a.CreateService(ctx, system, &fsm.UpdateService{FriendlyName: new("one")})
	require.NoError(t, err)
	require.Equal(t, "one", s.FriendlyName)
	require.EqualValues(t, objects.DefaultDebounce, s.DebounceWindow)
	c := api.Caller{Service: fsm.Ref{SID: s.SID}}
	s, err = a.UpdateService(ctx, c, &fsm.UpdateService{ACLEnabled: new(true)})
	require.NoError(t, err)
	require.Equal(t, "one", s.FriendlyName)
	fetched, err := a.FetchService(ctx, c)
	require.NoError(t, err)
	require.Equal(t, s, fetched)
	all, err := a.ListServices(ctx, system, fsm.Span[uint64]{Limit: 10})
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.NoError(t, a.RemoveService(ctx, c))
	require.ErrorIs(t, a.RemoveService(ctx, c), objects.ErrServiceGone)
	require.ErrorIs(t, a.RemoveService(ctx, system), objects.ErrDefault)
}

func TestQueryItemsKnowsWhatIsOnBothSides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, _ := start()
		create(t, a, objects.KindMap, "m")
		letter := rapid.StringMatching(`[a-f]`)
		keys := rapid.SliceOfNDistinct(letter, 0, 6, rapid.ID).Draw(t, "keys")
		for _, k := range keys {
			put(t, a, name("m"), k, "1")
		}
		r := fsm.Range{Limit: rapid.IntRange(1, 7).Draw(t, "limit"), Desc: rapid.Bool().Draw(t, "desc"), Exclusive: rapid.Bool().Draw(t, "exclusive")}
		slices.Sort(keys)
		if r.Desc {
			slices.Reverse(keys)
		}
		first := 0
		if rapid.Bool().Draw(t, "bounded") {
			r.From = new(key(letter.Draw(t, "from")))
			first = slices.IndexFunc(keys, func(k string) bool {
				return k == r.From.Key && !r.Exclusive || k != r.From.Key && (k > r.From.Key) != r.Desc
			})
			if first < 0 {
				first = len(keys)
			}
		}
		page, err := a.ListItems(context.Background(), system, objects.KindMap, name("m"), r)
		require.NoError(t, err)
		var got []string
		for _, i := range page.Items {
			got = append(got, i.Key)
		}
		last := min(first+r.Limit, len(keys))
		require.Equal(t, slices.Clone(keys[first:last]), append([]string{}, got...))
		require.Equal(t, first > 0, page.Before)
		require.Equal(t, last < len(keys), page.After)
	})
}

func TestSpans(t *testing.T) {
	a, _ := start()
	ctx := context.Background()
	m := create(t, a, objects.KindMap, "m")
	var nums []uint64
	var identities []string
	for i := range 300 {
		if i%3 == 0 {
			create(t, a, objects.KindList, "") // numbers have gaps
		}
		nums = append(nums, create(t, a, objects.KindDocument, "").Num)
		identities = append(identities, fmt.Sprintf("u%03d", i))
		_, _, err := a.SetPermission(ctx, system, objects.KindMap, name("m"), identities[i], objects.Read)
		require.NoError(t, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 120).Draw(t, "limit")
		at := rapid.Uint64Range(1, nums[len(nums)-1]+10).Draw(t, "at")
		listed := func(s fsm.Span[uint64]) []uint64 {
			_, list, err := a.ListObjects(ctx, system, objects.KindDocument, s)
			require.NoError(t, err)
			out := []uint64{}
			for _, o := range list {
				out = append(out, o.Num)
			}
			return out
		}
		below := slices.IndexFunc(append(slices.Clone(nums), ^uint64(0)), func(n uint64) bool { return n >= at })
		require.Equal(t, slices.Clone(nums[max(0, below-limit):below]), listed(fsm.Span[uint64]{Before: at, Limit: limit}))
		above := slices.IndexFunc(append(slices.Clone(nums), ^uint64(0)), func(n uint64) bool { return n > at })
		require.Equal(t, slices.Clone(nums[above:min(above+limit, len(nums))]), listed(fsm.Span[uint64]{After: at, Limit: limit}))

		before := fmt.Sprintf("u%03d", rapid.IntRange(0, 310).Draw(t, "identity"))
		_, list, err := a.ListPermissions(ctx, system, objects.KindMap, fsm.Ref{SID: m.SID}, fsm.Span[string]{Before: before, Limit: limit})
		require.NoError(t, err)
		got := []string{}
		for _, p := range list {
			got = append(got, p.Identity)
		}
		end, _ := slices.BinarySearch(identities, before)
		require.Equal(t, slices.Clone(identities[max(0, end-limit):end]), got)
	})
}
