package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

// store drives an FSM as raft would, one entry a command.
type store struct {
	t     require.TestingT
	fsm   *FSM
	index uint64
	time  int64
	seq   byte
	ids   uint64
	sent  []*raft.Log
}

var (
	testService = objects.NewSID(objects.KindService, [16]byte{1})
	asREST      = Actor{}
	asAlice     = Actor{Identity: "alice", Endpoint: "e1", Token: true}
)

func newStore(t require.TestingT) *store {
	s := &store{t: t, fsm: New(Config{}), time: 1_000_000}
	s.do(asREST, &Initialise{ClusterID: "c", AccountSID: "AC", AuthToken: "token", Service: testService})
	return s
}

// entry makes the next log entry of commands and remembers it.
func (s *store) entry(commands ...*Command) *raft.Log {
	encoded := make([][]byte, len(commands))
	for i, c := range commands {
		b, err := c.Encode()
		require.NoError(s.t, err)
		encoded[i] = b
	}
	s.index++
	log := &raft.Log{Index: s.index, Term: 1, Type: raft.LogCommand, Data: EncodeBatch(s.time, encoded)}
	s.sent = append(s.sent, log)
	return log
}

func (s *store) send(commands ...*Command) []*Result {
	results := s.fsm.Apply(s.entry(commands...)).([]*Result)
	if v := s.fsm.View(); v.Bytes()+v.TombstoneBytes()+v.OutboxBytes() < 64<<10 { // it reads the whole state
		require.NoError(s.t, v.Verify(), "%T", commands[0].Op)
	}
	return results
}

// newID makes an id that no other command of this store has.
func (s *store) newID() (id CommandID) {
	s.ids++
	binary.BigEndian.PutUint64(id[:], s.ids)
	return id
}

var lastID atomic.Uint64

// newID makes an id that no other command of the tests has.
func newID() (id CommandID) {
	binary.BigEndian.PutUint64(id[8:], lastID.Add(1))
	return id
}

func (s *store) command(actor Actor, op Op) *Command {
	return &Command{ID: s.newID(), Issued: s.fsm.View().Index(), Actor: actor, Service: testService, Op: op}
}

func (s *store) do(actor Actor, op Op) *Result { return s.send(s.command(actor, op))[0] }

// must is do for commands that have to succeed.
func (s *store) must(actor Actor, op Op) *Result {
	r := s.do(actor, op)
	if r.Err != nil {
		require.NoError(s.t, r.Err)
	}
	return r
}

func (s *store) sid(kind objects.Kind) objects.SID {
	s.seq++
	return objects.NewSID(kind, [16]byte{byte(kind), s.seq, byte(s.index), byte(s.index >> 8)})
}

func (s *store) create(kind objects.Kind, name string) *objects.Object {
	return s.must(asREST, &CreateObject{SID: s.sid(kind), UniqueName: name, Data: []byte(`{}`)}).Object
}

func (s *store) object(o *objects.Object) *objects.Object {
	now, ok := s.fsm.View().ObjectBySID(o.SID)
	require.True(s.t, ok)
	return now
}

// stored is an object with what only the store knows of it.
func (s *store) stored(o *objects.Object) *storedObject {
	now, ok := s.fsm.View().object(o.Service, o.Kind(), o.Num)
	require.True(s.t, ok)
	return now
}

func (s *store) service() *objects.Service {
	svc, ok := s.fsm.View().Service(Ref{SID: testService})
	require.True(s.t, ok)
	return svc
}

func (s *store) put(o *objects.Object, key, data string) *Result {
	return s.must(asREST, &WriteItem{Kind: objects.KindMap, Object: Ref{SID: o.SID}, Item: ItemKey{Key: key}, Mode: PutItem, Data: []byte(data)})
}

func (s *store) push(o *objects.Object, data string) *Result {
	return s.must(asREST, &WriteItem{Kind: objects.KindList, Object: Ref{SID: o.SID}, Mode: AppendItem, Data: []byte(data)})
}

// expireAll does what a leader does when something is due.
func (s *store) expireAll() {
	for s.send(Expire(newID()))[0].More {
	}
}

// snapshotBytes returns the state as a snapshot has it.
func snapshotBytes(t require.TestingT, f *FSM) []byte {
	var b bytes.Buffer
	require.NoError(t, f.WriteSnapshot(&b))
	return b.Bytes()
}

// sum returns a hash of the whole state.
func sum(t require.TestingT, f *FSM) [32]byte {
	h := sha256.New()
	require.NoError(t, writeRecords(h, f.View(), f.dedup.snapshot()))
	return [32]byte(h.Sum(nil))
}

func refused(t *testing.T, want *objects.Error, r *Result) {
	t.Helper()
	require.NotNil(t, r.Err, "refused with %v", want)
	require.ErrorIs(t, r.Err, want)
}

func ptr[T any](x T) *T { return &x }
