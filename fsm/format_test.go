package fsm

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"lockstep/objects"
)

func TestBatchThatCannotBeReadIsAnError(t *testing.T) {
	good, err := (&Command{Op: &expire{}}).Encode()
	require.NoError(t, err)
	batch := EncodeBatch(5, [][]byte{good, good})
	at, commands, err := decodeBatch(batch)
	require.NoError(t, err)
	require.EqualValues(t, 5, at)
	require.Len(t, commands, 2)
	for _, bad := range [][]byte{nil, {}, {3}, {1}, batch[:len(batch)-1], append(bytes.Clone(batch), 9)} {
		_, _, err := decodeBatch(bad)
		require.ErrorIs(t, err, ErrCommand)
	}
	require.Panics(t, func() {
		New(Config{}).Apply(&raft.Log{Index: 1, Type: raft.LogCommand, Data: []byte("garbage")})
	}, "a log that cannot be read must not be skipped")
}

// filled is a store with something in every table.
func filled(t require.TestingT) *store {
	s := newStore(t)
	s.must(asREST, &UpdateService{WebhookURL: ptr("http://127.0.0.1:1/"), ReachabilityWebhooks: ptr(true), ACLEnabled: ptr(true), WebhooksFromREST: ptr(true)})
	m := s.create(objects.KindMap, "m")
	s.put(m, "a", `1`)
	s.put(m, "b", `2`)
	s.must(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Item: ItemKey{Key: "a"}})
	s.must(asREST, &SetPermission{Kind: objects.KindMap, Object: Ref{SID: m.SID}, Identity: "alice", Rights: objects.Read})
	s.must(asREST, &CreateObject{SID: s.sid(objects.KindDocument), UniqueName: "d", Data: []byte(`{"x":"y"}`), TTL: 60})
	s.must(asREST, &CreateKey{SID: s.sid(objects.KindKey), Secret: "secret", Scope: objects.KeyScope{ReadOnly: true, Service: testService}})
	s.must(asREST, &AddAuthToken{Token: "second"})
	s.must(asREST, &RotateKey{Key: KeyID{1}})
	s.must(asREST, &ReachKeyStage{Key: KeyID{1}, Stage: KeySpreads, Server: "n"})
	s.must(asREST, &StoreSealed{Name: "a", Key: KeyID{2}, Data: []byte("sealed")})
	s.must(asREST, &TakeLease{Name: "a", Holder: "n", Millis: 60_000})
	s.must(asAlice, &ConnectEndpoint{Node: "n"})
	l := s.create(objects.KindList, "gone")
	s.push(l, `1`)
	s.must(asREST, &RemoveObject{Kind: objects.KindList, Object: Ref{Name: "gone"}})
	s.must(asREST, &OpenDurable{List: Ref{Name: "log"}, SID: s.sid(objects.KindList), ContentType: "text/plain", TTL: 60})
	s.must(asREST, &AppendDurable{List: Ref{Name: "log"}, ContentType: "text/plain", Items: [][]byte{[]byte(`"x"`)}, Producer: &Producer{ID: "p"}})
	s.must(asREST, &OpenLease{ID: "L", Grace: 60_000})
	s.must(asREST, leasing("L", "held"))
	keyed := s.command(asREST, &CreateObject{SID: s.sid(objects.KindStream)})
	keyed.ClientChosen = true
	s.send(keyed)
	return s
}

func TestSnapshotIsTheState(t *testing.T) {
	s := filled(t)
	b := snapshotBytes(t, s.fsm)
	back := New(Config{})
	cursor := back.Feed().Follow()
	require.NoError(t, back.Restore(io.NopCloser(bytes.NewReader(b))))
	require.Equal(t, b, snapshotBytes(t, back), "equal states, equal bytes")
	require.Equal(t, s.fsm.View().Index(), back.View().Index())
	_, err := cursor.Next(t.Context())
	require.ErrorIs(t, err, ErrBehind, "followers are told that the state was replaced")

	log := s.entry(s.command(asREST, &RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "b"}}), Expire(newID()))
	s.fsm.Apply(log)
	back.Apply(log)
	require.Equal(t, sum(t, s.fsm), sum(t, back), "and it goes on the same")
}

func TestWritingSnapshotDoesNotDelayApply(t *testing.T) {
	s := filled(t)
	snap, err := s.fsm.Snapshot()
	require.NoError(t, err)
	before := snapshotBytes(t, s.fsm)
	for range 100 {
		s.create(objects.KindMap, "")
	}
	var b bytes.Buffer
	require.NoError(t, writeSnapshot(&b, snap.(*snapshot).view, snap.(*snapshot).windows))
	require.Equal(t, before, b.Bytes(), "what is written is the state at the time of the snapshot")
}

func TestDamagedSnapshotIsRefusedUnchanged(t *testing.T) {
	good := snapshotBytes(t, filled(t).fsm)
	s := newStore(t)
	before := sum(t, s.fsm)
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if err := s.fsm.Restore(io.NopCloser(bytes.NewReader(bad))); err == nil {
			// Compressed data can say the same in two ways: then nothing is damaged.
			require.Equal(t, good, snapshotBytes(t, s.fsm), "a flipped bit at %d of %d was not noticed", at, len(good))
			s = newStore(t)
			before = sum(t, s.fsm)
		}
		require.ErrorIs(t, s.fsm.Restore(io.NopCloser(bytes.NewReader(good[:at]))), ErrSnapshot)
	}
	require.Equal(t, before, sum(t, s.fsm))
}

func FuzzDecodeCommand(f *testing.F) {
	for _, op := range everyOp() {
		b, err := (&Command{Actor: asAlice, Service: testService, Op: op}).Encode()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCommand(b)
		if err != nil {
			require.ErrorIs(t, err, ErrCommand)
			return
		}
		again, err := c.Encode()
		require.NoError(t, err)
		s := newStore(t)
		s.index++
		s.fsm.Apply(&raft.Log{Index: s.index, Term: 1, Type: raft.LogCommand, Data: EncodeBatch(1, [][]byte{again})})
	})
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(snapshotBytes(f, filled(f).fsm))
	f.Add(snapshotMagic)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := readSnapshot(bytes.NewReader(b)); err != nil {
			require.ErrorIs(t, err, ErrSnapshot)
		}
	})
}

func TestBatchIsHeldByItsChecksum(t *testing.T) {
	batch := EncodeBatch(1_700_000_000_000, [][]byte{{byte(Level1), 1}, {byte(Level1), 2}})
	require.NoError(t, CheckBatch(batch))
	for bit := range 8 * len(batch) {
		altered := append([]byte(nil), batch...)
		altered[bit/8] ^= 1 << (bit % 8)
		require.ErrorIs(t, CheckBatch(altered), ErrCommand, "bit %d", bit)
	}
	for size := range batch {
		require.ErrorIs(t, CheckBatch(batch[:size]), ErrCommand, "%d bytes of it", size)
	}
}
