package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/cluster"
	"lockstep/fsm"
	"lockstep/objects"
	"lockstep/server/backup"
	"lockstep/test/validate"
)

// The objects that clients use.
var (
	registers = []objects.SID{objects.NewSID(objects.KindDocument, [16]byte{1}), objects.NewSID(objects.KindDocument, [16]byte{3})}
	list      = objects.NewSID(objects.KindList, [16]byte{2})
	entryMap  = objects.NewSID(objects.KindMap, [16]byte{4})
)

// clientTimeout is how long a client waits for an answer.
const clientTimeout = 3 * time.Second

// clients use a cluster through all of its nodes, and write down what they are
// told.
type clients struct {
	cluster *Cluster
	rand    *rand.Rand    // of the one that makes them, not of any of them
	pause   time.Duration // between two requests of one of them, at most

	backup      *madeBackup // the newest; nil: none
	registers   validate.History
	writes      validate.Writes
	subscribers []*subscriber

	values  atomic.Int64
	refused atomic.Pointer[objects.Error] // what nobody expects to be refused
	cancel  context.CancelFunc
	running sync.WaitGroup
	hearing sync.WaitGroup
	deaf    context.CancelFunc
}

// startClients makes the objects and starts the clients.
func startClients(ctx context.Context, c *Cluster, r *rand.Rand) (*clients, error) {
	all := &clients{cluster: c, rand: r, pause: 50*time.Millisecond + upTo(r, 150*time.Millisecond)}
	ops := []fsm.Op{&fsm.CreateObject{SID: list}, &fsm.CreateObject{SID: entryMap}}
	for _, sid := range registers {
		ops = append(ops, &fsm.CreateObject{SID: sid, Data: []byte("0")})
	}
	for _, op := range ops {
		if result, err := c.Nodes()[0].Propose(ctx, Command(op)); err != nil || result.Err != nil {
			return nil, fmt.Errorf("sim: create object: %w, %v", err, result)
		}
	}
	working, cancel := context.WithCancel(context.Background())
	hearing, deaf := context.WithCancel(context.Background())
	all.cancel, all.deaf = cancel, deaf
	for i := range 3 {
		all.start(func(r *rand.Rand) { all.useRegisters(working, i, r) })
	}
	for i := range 2 {
		all.start(func(r *rand.Rand) { all.appendItems(working, i, r) })
		all.start(func(r *rand.Rand) { all.changeEntries(working, r) })
	}
	for range 4 {
		s := &subscriber{cluster: c, rand: fork(r), object: entryMap}
		all.subscribers = append(all.subscribers, s)
		all.hearing.Go(func() { s.run(hearing) })
	}
	return all, nil
}

func fork(r *rand.Rand) *rand.Rand { return rand.New(rand.NewPCG(r.Uint64(), r.Uint64())) }

func (c *clients) start(client func(*rand.Rand)) {
	r := fork(c.rand)
	c.running.Go(func() { client(r) })
}

// stop ends the writing and reading; subscribers hear on until end.
func (c *clients) stop() {
	c.cancel()
	c.running.Wait()
}

// end ends all of it.
func (c *clients) end() {
	c.stop()
	c.deaf()
	c.hearing.Wait()
}

// each calls request with some node after the other until ctx ends.
func (c *clients) each(ctx context.Context, r *rand.Rand, request func(ctx context.Context, n *member)) {
	for ctx.Err() == nil {
		if nodes := c.cluster.Nodes(); len(nodes) > 0 {
			// A request that was made is waited for, whatever ctx says.
			attempt, cancel := context.WithTimeout(context.Background(), clientTimeout)
			request(attempt, nodes[r.IntN(len(nodes))])
			cancel()
		}
		Sleep(ctx, upTo(r, c.pause))
	}
}

// write proposes a command and returns what the client knows of it then.
func (c *clients) write(ctx context.Context, n *member, op fsm.Op) (*fsm.Result, validate.Fate) {
	result, err := n.Propose(ctx, Command(op))
	return result, fateOf(err)
}

func fateOf(err error) validate.Fate {
	switch {
	case errors.Is(err, cluster.ErrUnknownOutcome):
		return validate.Unknown
	case err != nil:
		return validate.Failed
	}
	return validate.Done
}

// madeBackup is a backup that was made while all went on.
type madeBackup struct {
	content      []byte
	acknowledged map[string]bool // writes, before it was begun
}

// backsUp is the client whose reads are those of backups.
const backsUp = 100

// backUp makes a backup through a node. It is a read of all registers at one moment.
func (c *clients) backUp(ctx context.Context, n *member) error {
	made := &madeBackup{acknowledged: c.writes.Acknowledged()}
	began := c.registers.Begin()
	state, err := n.Capture(ctx)
	if err != nil {
		return err
	}
	var content bytes.Buffer
	if err := backup.Write(&content, backup.Origin{Node: n.ID(), Release: "sim", At: time.Now()}, state); err != nil {
		return err
	}
	made.content = content.Bytes()
	b, err := backup.Load(&content)
	if err != nil {
		return err
	}
	for _, sid := range registers {
		value, _ := valueOf(b.State.View(), sid)
		c.registers.End(backsUp, validate.Call{Object: sid.String(), Kind: validate.Read}, began, validate.Outcome{Value: value})
	}
	c.backup = made
	return nil
}

func valueOf(view *fsm.View, sid objects.SID) (value int, revision objects.Revision) {
	o, _ := view.ObjectBySID(sid)
	fmt.Sscan(string(o.Data), &value)
	return value, o.Revision()
}

// useRegisters reads and writes documents, and replaces what it last saw.
func (c *clients) useRegisters(ctx context.Context, client int, r *rand.Rand) {
	type sight struct {
		value    int
		revision objects.Revision
	}
	seen := make(map[objects.SID]sight)
	c.each(ctx, r, func(ctx context.Context, n *member) {
		sid := registers[r.IntN(len(registers))]
		call := validate.Call{Object: sid.String(), Kind: validate.Read}
		began := c.registers.Begin()
		if r.IntN(2) == 0 {
			view, err := n.Read(ctx, objects.Bucket{})
			if err != nil {
				return // it says nothing
			}
			value, revision := valueOf(view, sid)
			c.registers.End(client, call, began, validate.Outcome{Value: value})
			seen[sid] = sight{value, revision}
			return
		}
		call.Kind, call.Value = validate.Set, int(c.values.Add(1))
		op := &fsm.UpdateObject{Kind: objects.KindDocument, Object: fsm.Ref{SID: sid}, Data: fmt.Append(nil, call.Value)}
		if last, ok := seen[sid]; ok && r.IntN(2) == 0 {
			call.Kind, call.Expected = validate.CompareAndSet, last.value
			op.Match = objects.Precondition{Kind: objects.MatchRevision, Revision: last.revision}
		}
		result, fate := c.write(ctx, n, op)
		switch {
		case fate == validate.Failed: // nothing was written
		case fate == validate.Unknown:
			c.registers.End(client, call, began, validate.Outcome{Unknown: true})
		case result.Err != nil:
			c.registers.End(client, call, began, validate.Outcome{Refused: true})
			if !result.Err.Is(objects.ErrDocumentMismatch) {
				c.refused.Store(result.Err)
			}
			delete(seen, sid)
		default:
			c.registers.End(client, call, began, validate.Outcome{Value: call.Value})
			seen[sid] = sight{call.Value, result.Object.Revision()}
		}
	})
}

// appendItems appends to the list, each time something else, and some of it together.
func (c *clients) appendItems(ctx context.Context, client int, r *rand.Rand) {
	count := 0
	c.each(ctx, r, func(ctx context.Context, n *member) {
		var names []string
		var together []*fsm.Command
		for range 1 + r.IntN(3) {
			count++
			name := itemName(client, count)
			names = append(names, name)
			together = append(together, Command(&fsm.WriteItem{
				Kind: objects.KindList, Object: fsm.Ref{SID: list}, Mode: fsm.AppendItem, Data: []byte(name),
			}))
		}
		n.ProposeAll(ctx, together, func(i int, result *fsm.Result, err error) {
			c.writes.Note(names[i], fateOf(err))
			if err == nil && result.Err != nil {
				c.refused.Store(result.Err)
			}
		})
	})
}

func itemName(client, count int) string { return fmt.Sprintf(`"%d-%d"`, client, count) }

// placeOf is what itemName made a name of, if it did.
func placeOf(name string) (client, count int, ok bool) {
	_, err := fmt.Sscanf(name, `"%d-%d"`, &client, &count)
	return client, count, err == nil
}

// changeEntries puts and removes a few entries of the map.
func (c *clients) changeEntries(ctx context.Context, r *rand.Rand) {
	c.each(ctx, r, func(ctx context.Context, n *member) {
		key := fsm.ItemKey{Key: string(rune('a' + r.IntN(5)))}
		var op fsm.Op = &fsm.WriteItem{
			Kind: objects.KindMap, Object: fsm.Ref{SID: entryMap}, Item: key, Mode: fsm.PutItem, Data: fmt.Append(nil, c.values.Add(1)),
		}
		if r.IntN(4) == 0 {
			op = &fsm.RemoveItem{Kind: objects.KindMap, Object: fsm.Ref{SID: entryMap}, Item: key}
		}
		if result, fate := c.write(ctx, n, op); fate == validate.Done && result.Err != nil && result.Err.Status != 404 {
			c.refused.Store(result.Err)
		}
	})
}
