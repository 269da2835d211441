package api_test

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/fsm"
	"lockstep/fsm/fsmtest"
	"lockstep/objects"
	"lockstep/server/api"
)

// node is a cluster of one that remembers what it was asked.
type node struct {
	*fsmtest.Node
	proposed []*fsm.Command
	buckets  []objects.Bucket
	view     *fsm.View // what the local store shows, if it lags
	failure  error     // of Propose and Read
}

func (n *node) Propose(ctx context.Context, c *fsm.Command) (*fsm.Result, error) {
	n.proposed = append(n.proposed, c)
	if n.failure != nil {
		return nil, n.failure
	}
	return n.Node.Propose(ctx, c)
}

func (n *node) Read(ctx context.Context, bucket objects.Bucket) (*fsm.View, error) {
	n.buckets = append(n.buckets, bucket)
	if n.failure != nil {
		return nil, n.failure
	}
	return n.Node.Read(ctx, bucket)
}

func (n *node) View() *fsm.View {
	if n.view != nil {
		return n.view
	}
	return n.Node.View()
}

var (
	system = api.Caller{Service: fsm.Ref{Name: fsm.DefaultService}}
	alice  = api.Caller{
		Service: fsm.Ref{SID: fsmtest.Service},
		Actor:   fsm.Actor{Token: true, Identity: "alice", Endpoint: "e1"},
	}
	unknownService = api.Caller{Service: fsm.Ref{SID: objects.NewSID(objects.KindService, [16]byte{9})}}
)

func start() (*api.API, *node) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890e6, time.UTC)
	n := &node{Node: fsmtest.New(func() time.Time { return at })}
	return api.New(n), n
}

func name(text string) fsm.Ref { return fsm.Ref{Name: text} }

func key(text string) fsm.ItemKey { return fsm.ItemKey{Key: text} }

// create makes an object that must come to be.
func create(t require.TestingT, a *api.API, kind objects.Kind, uniqueName string) *objects.Object {
	c := api.Create{}
	if uniqueName != "" {
		c.Name = &uniqueName
	}
	o, err := a.CreateObject(context.Background(), system, kind, c)
	require.NoError(t, err)
	return o
}

func put(t require.TestingT, a *api.API, ref fsm.Ref, k, data string) api.Written {
	w, err := a.WriteItem(context.Background(), system, objects.KindMap, ref, api.ItemWrite{Mode: fsm.PutItem, Key: key(k), Data: []byte(data)})
	require.NoError(t, err)
	return w
}

// everything runs every operation on one object of each kind, and returns the
// errors by name.
func everything(ctx context.Context, a *api.API, c api.Caller, ref fsm.Ref) map[string]error {
	errs := map[string]error{}
	for _, kind := range []objects.Kind{objects.KindDocument, objects.KindList, objects.KindMap, objects.KindStream} {
		_, errs["fetch "+kind.String()] = a.FetchObject(ctx, c, kind, ref)
		_, errs["update "+kind.String()] = a.UpdateObject(ctx, c, kind, ref, api.Update{TTL: new(int64(60))})
		_, errs["remove "+kind.String()] = a.RemoveObject(ctx, c, kind, ref)
	}
	_, errs["write item"] = a.WriteItem(ctx, c, objects.KindMap, ref, api.ItemWrite{Mode: fsm.PutItem, Key: key("k"), Data: []byte("1")})
	_, errs["remove item"] = a.RemoveItem(ctx, c, objects.KindMap, ref, key("k"), objects.Precondition{})
	_, _, errs["fetch item"] = a.FetchItem(ctx, c, objects.KindMap, ref, key("k"))
	_, errs["query items"] = a.ListItems(ctx, c, objects.KindMap, ref, fsm.Range{Limit: 1})
	_, _, errs["publish"] = a.Publish(ctx, c, ref, []byte("1"))
	_, _, errs["set permission"] = a.SetPermission(ctx, c, objects.KindMap, ref, "bob", objects.Read)
	errs["remove permission"] = a.RemovePermission(ctx, c, objects.KindMap, ref, "bob")
	_, _, errs["fetch permission"] = a.FetchPermission(ctx, c, objects.KindMap, ref, "bob")
	_, _, errs["list permissions"] = a.ListPermissions(ctx, c, objects.KindMap, ref, fsm.Span[string]{Limit: 1})
	return errs
}

// ofService is everything for what names no object.
func ofService(ctx context.Context, a *api.API, c api.Caller) map[string]error {
	errs := map[string]error{}
	_, errs["create"] = a.CreateObject(ctx, c, objects.KindDocument, api.Create{})
	_, _, errs["list"] = a.ListObjects(ctx, c, objects.KindDocument, fsm.Span[uint64]{Limit: 1})
	_, errs["fetch service"] = a.FetchService(ctx, c)
	_, errs["update service"] = a.UpdateService(ctx, c, &fsm.UpdateService{})
	errs["remove service"] = a.RemoveService(ctx, c)
	return errs
}
