package enrol_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/server/enrol"
	"lockstep/server/nodedir"
)

func TestRecordKeepsTheNewestSeeds(t *testing.T) {
	dir := t.TempDir()
	r := enrol.NewRecord(dir)
	require.NoError(t, r.Set(nodedir.Record{ID: "a", Seeds: []string{"old:1"}}))
	for i := range enrol.MaxSeeds {
		require.NoError(t, r.AddSeed(fmt.Sprintf("host:%d", i)))
	}
	require.NoError(t, r.AddSeed("host:3"))
	require.NoError(t, r.AddSeed(""))
	kept, err := nodedir.Load(dir)
	require.NoError(t, err)
	require.Len(t, kept.Seeds, enrol.MaxSeeds)
	require.NotContains(t, kept.Seeds, "old:1")
	require.Equal(t, "host:3", kept.Seeds[enrol.MaxSeeds-1])
}

func TestKeysAreKeptOnceTheRecordIsComplete(t *testing.T) {
	dir := t.TempDir()
	r := enrol.NewRecord(dir)
	require.Error(t, r.KeepKeys([32]byte{1}, nil))
	require.NoFileExists(t, dir+"/"+nodedir.RecordFile)
	require.NoError(t, r.Set(nodedir.Record{ID: "a"}))
	require.NoError(t, r.KeepKeys([32]byte{1}, [][32]byte{{2}}))
	kept, err := nodedir.Load(dir)
	require.NoError(t, err)
	c, err := enrol.ClusterConfig(kept)
	require.NoError(t, err)
	require.Equal(t, [32]byte{1}, c.Key)
	require.Equal(t, [][32]byte{{2}}, c.OtherKeys)
	kept.ClusterKey = "not hexadecimal"
	_, err = enrol.ClusterConfig(kept)
	require.ErrorContains(t, err, "node.json")
}
