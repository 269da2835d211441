package fsm

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/test/golden"
)

const goldenLevel1 = "testdata/golden/level1/"

// full sets all fields of what x points to, to values that can be.
func full[T any](x T) T {
	return golden.Fill(x, objects.KindMap, objects.NewSID(objects.KindMap, [16]byte{2}), PutItem, KeyUsed, Level1,
		objects.MatchRevision, objects.Read|objects.Manage, []byte(`{"a":1}`),
		Part{&RemoveItem{Kind: objects.KindMap, Object: Ref{Name: "m"}, Item: ItemKey{Key: "k"}}}, []Result{{Created: true}, {More: true}})
}

func opName(op Op) string { return reflect.TypeOf(op).Elem().Name() }

// everyOp is one operation of each kind that the table has, all fields set.
func everyOp() []Op {
	var all []Op
	for _, row := range operations {
		all = append(all, full(row.new()))
	}
	return all
}

func fullCommand(op Op) *Command {
	return golden.Fill(&Command{Op: op}, testService)
}

// TestEveryOperationIsInTheTable looks for all types that can be an operation.
func TestEveryOperationIsInTheTable(t *testing.T) {
	inTable := map[string]bool{}
	numbers := map[opKind]bool{}
	for _, row := range operations {
		name := opName(row.new())
		require.False(t, inTable[name] || numbers[row.kind], "%s, %d: there twice", name, row.kind)
		inTable[name], numbers[row.kind] = true, true
		require.NotZero(t, row.kind, name)
		require.NotZero(t, row.by, "%s: who makes it?", name)
		require.NotZero(t, row.price, "%s: what does it cost?", name)
		require.True(t, row.level >= Level1 && row.level <= Newest, "%s: level %d", name, row.level)
		require.False(t, row.by == byCluster && row.price != Free, "%s: who pays?", name)
		require.False(t, row.by == byClient && !row.once, "%s: a client's write happens once", name)
	}
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	found := 0
	for _, file := range files {
		if ours, err := build.Default.MatchFile(".", file); err != nil || !ours || strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "apply" || f.Type.Results == nil {
				continue
			}
			receiver, ok := f.Recv.List[0].Type.(*ast.StarExpr)
			if result, plain := f.Type.Results.List[0].Type.(*ast.Ident); !ok || !plain || result.Name != "Result" {
				continue
			}
			name := receiver.X.(*ast.Ident).Name
			if name == "FSM" {
				continue
			}
			found++
			require.True(t, inTable[name], "%s in %s has no row in the table of operations", name, file)
		}
	}
	require.Equal(t, len(operations), found)
}

func TestOperationWithoutARowIsNotEncoded(t *testing.T) {
	_, err := (&Command{Op: &stray{}}).Encode()
	require.ErrorContains(t, err, "not in the table")
}

type stray struct{}

func (*stray) apply(*tx) Result { return Result{} }

func TestCommandsAreAsTheyWere(t *testing.T) {
	forms := map[string][]byte{}
	for _, row := range operations {
		if row.level > Level1 {
			continue
		}
		op := full(row.new())
		c := fullCommand(op)
		golden.NoZero(t, c)
		golden.NoZero(t, op)
		b, err := c.Encode()
		require.NoError(t, err)
		forms[opName(op)] = b
	}
	golden.Check(t, goldenLevel1+"commands", forms)
	for name, b := range golden.Read(t, goldenLevel1+"commands") {
		c, err := DecodeCommand(b)
		require.NoError(t, err, name)
		require.Equal(t, fullCommand(c.Op), c, name)
		require.Equal(t, full(kinds[rows[reflect.TypeOf(c.Op)].kind].new()), c.Op, name)
	}
}

func TestBatchIsAsItWas(t *testing.T) {
	command := golden.Read(t, goldenLevel1+"commands")["Publish"]
	golden.Check(t, goldenLevel1+"batch", map[string][]byte{"batch": EncodeBatch(1_700_000_000_000, [][]byte{command, command})})
	at, commands, err := decodeBatch(golden.Read(t, goldenLevel1+"batch")["batch"])
	require.NoError(t, err)
	require.EqualValues(t, 1_700_000_000_000, at)
	require.Equal(t, []Command{*fullCommand(full(&Publish{})), *fullCommand(full(&Publish{}))}, commands)
}

func TestResultIsAsItWas(t *testing.T) {
	r := full(&Result{})
	golden.NoZero(t, r)
	b, err := r.Encode()
	require.NoError(t, err)
	golden.Check(t, goldenLevel1+"result", map[string][]byte{"Result": b})
	back, err := DecodeResult(golden.Read(t, goldenLevel1+"result")["Result"])
	require.NoError(t, err)
	require.Equal(t, r, back)
}

// everyRecord is one record of each type that a snapshot can have, but for the
// trailer, in the order of snapshots.
func everyRecord() []struct {
	Type   recordType
	Record any
} {
	return []struct {
		Type   recordType
		Record any
	}{
		{recordMeta, full(&meta{})},
		{recordService, full(&objects.Service{})},
		{recordObject, full(&storedObject{})},
		{recordItem, full(&objects.Item{})},
		{recordTombstone, full(&Tombstone{})},
		{recordPermission, full(&objects.Permission{})},
		{recordKey, full(&objects.APIKey{})},
		{recordExpiry, full(&expiry{})},
		{recordGarbage, full(&garbage{})},
		{recordDelivery, full(&Delivery{})},
		{recordEndpoint, full(&Endpoint{})},
		{recordWindow, full(&storedWindow{})},
		{recordChunk, full(&storedChunk{})},
		{recordSealed, full(&Sealed{})},
		{recordLease, full(&Lease{})},
		{recordDurable, full(&Durable{})},
		{recordProducer, full(&knownProducer{})},
		{recordHolder, full(&Holder{})},
		{recordHold, full(&hold{})},
		{recordTrailer, full(&trailer{})},
	}
}

func TestRecordsOfSnapshotsAreAsTheyWere(t *testing.T) {
	forms := map[string][]byte{}
	values := map[string]any{}
	for _, r := range everyRecord() {
		golden.NoZero(t, r.Record)
		b, err := encoding.Marshal(r.Record)
		require.NoError(t, err)
		name := fmt.Sprintf("%03d", r.Type)
		forms[name], values[name] = b, r.Record
	}
	golden.Check(t, goldenLevel1+"records", forms)
	for name, b := range golden.Read(t, goldenLevel1+"records") {
		back := reflect.New(reflect.TypeOf(values[name]).Elem()).Interface()
		require.NoError(t, decoding.Unmarshal(b, back), name)
		require.Equal(t, values[name], back, name)
	}
}

// TestEveryTypeOfRecordIsHeld finds the types of records among the constants.
func TestEveryTypeOfRecordIsHeld(t *testing.T) {
	parsed, err := parser.ParseFile(token.NewFileSet(), "snapshot.go", nil, 0)
	require.NoError(t, err)
	constants := 0
	ast.Inspect(parsed, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "recordType" {
				constants++
			}
		}
		return true
	})
	require.Len(t, everyRecord(), constants)
}

// TestSnapshotOfTheFirstReleaseIsRead reads a whole one, with commands in the
// dedup windows and something in every table.
func TestSnapshotOfTheFirstReleaseIsRead(t *testing.T) {
	s := filled(t)
	var want bytes.Buffer
	require.NoError(t, writeRecords(&want, s.fsm.View(), s.fsm.dedup.snapshot()))
	types := map[recordType]bool{}
	for _, r := range rawRecords(t, s.fsm) {
		types[r.is] = true
	}
	types[recordTrailer] = true // which that has read, too
	for _, r := range everyRecord() {
		require.True(t, types[r.Type], "no record of type %d in it", r.Type)
	}

	golden.Check(t, goldenLevel1+"state", map[string][]byte{"records": want.Bytes()})
	const file = goldenLevel1 + "snapshot.zst"
	golden.Keep(t, file, snapshotBytes(t, s.fsm)) // how well it is compressed may change
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	view, windows, err := readSnapshot(bytes.NewReader(b))
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, writeRecords(&got, view, windows))
	require.True(t, slices.Equal(want.Bytes(), got.Bytes()))
}
