package server

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/admin"
	"lockstep/server/transfer"
)

const (
	importedService = "IS00000000000000000000000000000077"
	importedList    = "ES00000000000000000000000000000077"
)

func recordLines(t *testing.T, records ...transfer.Record) []byte {
	t.Helper()
	var all []byte
	for i := range records {
		line, err := transfer.Line(&records[i])
		require.NoError(t, err)
		all = append(all, line...)
	}
	return all
}

func TestOperatorImportsWhatRESTShowsThen(t *testing.T) {
	s := start(t, Config{DataDir: dataDir(t), Account: testAccount, Bootstrap: true})
	s.untilReady(t)
	index, count := uint64(7), uint64(1)
	list := transfer.Record{Kind: transfer.List, SID: importedList, ServiceSID: importedService, UniqueName: "l", Revision: "1f", Created: "2015-07-30T20:00:00Z", Updated: "2016-07-30T20:00:00Z", Creator: "bob"}
	whole := list
	whole.Items = &count
	batch := recordLines(t,
		transfer.Record{Kind: transfer.Service, SID: importedService, FriendlyName: "shop"}, list,
		transfer.Record{Kind: transfer.ListItem, ListSID: importedList, Index: &index, Revision: "3", Data: []byte(`{"a":1}`)},
		whole,
		transfer.Record{Kind: transfer.Document, ServiceSID: importedService, SID: "nothing", Data: []byte(`1`)},
	)
	outcomes, err := s.Import(t.Context(), batch, true)
	require.NoError(t, err)
	require.Equal(t, admin.DifferenceMissing, outcomes[0].Difference)
	require.Equal(t, admin.DifferenceMissing, outcomes[3].Difference)
	require.Equal(t, objects.ErrParameter.Code, outcomes[4].Code)
	status, _ := s.get(t, "/v1/Services/"+importedService, testAccount.SID, testAccount.AuthToken)
	require.Equal(t, http.StatusNotFound, status, "comparing changes nothing")

	for range 2 { // to do it twice is like doing it once
		outcomes, err = s.Import(t.Context(), batch, false)
		require.NoError(t, err)
		require.Equal(t, make([]admin.Outcome, 4), outcomes[:4])
		require.Equal(t, objects.ErrParameter.Code, outcomes[4].Code, "one that is refused keeps none of the others out")
	}
	_, body := s.get(t, "/v1/Services/"+importedService+"/Lists/l", testAccount.SID, testAccount.AuthToken)
	for _, member := range []string{`"sid":"` + importedList + `"`, `"revision":"1f"`, `"date_created":"2015-07-30T20:00:00Z"`, `"date_updated":"2016-07-30T20:00:00Z"`, `"created_by":"bob"`} {
		require.Contains(t, body, member)
	}
	_, body = s.get(t, "/v1/Services/"+importedService+"/Lists/l/Items/7", testAccount.SID, testAccount.AuthToken)
	require.Contains(t, body, `"revision":"3","data":{"a":1}`)

	before := s.status(t).Nodes[0].AppliedIndex
	_, err = s.Import(t.Context(), recordLines(t, list, whole), false)
	require.NoError(t, err)
	require.Equal(t, before, s.status(t).Nodes[0].AppliedIndex, "what is there needs no entry in the log")

	for _, bad := range [][]byte{nil, []byte("{"), []byte(`{"kind":"` + strings.Repeat("x", admin.MaxImport) + `"}`), bytes.Repeat([]byte("{}\n"), 101)} {
		_, err := s.Import(t.Context(), bad, false)
		var refused *objects.Error
		require.ErrorAs(t, err, &refused)
		require.Contains(t, []int{400, 413}, refused.Status)
	}
	key, err := s.CreateKey(t.Context(), admin.NewKey{KeyScope: admin.KeyScope{Role: "admin"}})
	require.NoError(t, err)
	_, err = (&admin.Client{URLs: s.Client.URLs, AccountSID: key.SID, AuthToken: key.Secret}).Import(t.Context(), batch, false)
	var refused *objects.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusForbidden, refused.Status, "data is the account's")
}

func (r *running) status(t *testing.T) admin.Status {
	t.Helper()
	s, err := r.Client.Status(t.Context())
	require.NoError(t, err)
	return s
}
