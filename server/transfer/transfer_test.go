package transfer_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"lockstep/objects"
	"lockstep/server/transfer"
)

const (
	service = "IS00000000000000000000000000000001"
	aMap    = "MP00000000000000000000000000000001"
	aList   = "ES00000000000000000000000000000001"
	aDoc    = "ET00000000000000000000000000000001"
	aStream = "TO00000000000000000000000000000001"
)

// answers are records as the REST API shows them, and the kind of each.
var answers = []struct{ kind, json string }{
	{transfer.Service, `{"sid":"` + service + `","unique_name":null,"account_sid":"AC1","friendly_name":"shop","date_created":"2015-07-30T20:00:00Z","date_updated":"2015-07-30T20:00:01Z","webhook_url":"https://a.example/?x=1","webhooks_from_rest_enabled":true,"reachability_webhooks_enabled":false,"acl_enabled":true,"reachability_debouncing_enabled":false,"reachability_debouncing_window":5000,"url":"http://x","links":{}}`},
	{transfer.Document, `{"sid":"` + aDoc + `","unique_name":"d","service_sid":"` + service + `","revision":"1f","data":{"n":12345678901234567890,"t":"<\ud800>"},"date_expires":null,"date_created":"2015-07-30T20:00:00Z","date_updated":"2015-07-30T20:00:01Z","created_by":"alice"}`},
	{transfer.List, `{"sid":"` + aList + `","unique_name":null,"service_sid":"` + service + `","revision":"a","date_expires":"2035-07-30T20:00:00Z","date_created":"2015-07-30T20:00:00Z","date_updated":"2015-07-30T20:00:01Z","created_by":"system"}`},
	{transfer.ListItem, `{"index":0,"service_sid":"` + service + `","list_sid":"` + aList + `","revision":"2","data":0,"date_expires":null,"date_created":"2015-07-30T20:00:00Z","date_updated":"2015-07-30T20:00:01Z","created_by":"system"}`},
	{transfer.Map, `{"sid":"` + aMap + `","unique_name":"m","service_sid":"` + service + `","revision":"0"}`},
	{transfer.MapItem, `{"key":"a b","service_sid":"` + service + `","map_sid":"` + aMap + `","revision":"2","data":[1, 2],"created_by":"bob"}`},
	{transfer.Permission, `{"identity":"alice","service_sid":"` + service + `","map_sid":"` + aMap + `","read":true,"write":false,"manage":true}`},
}

func records(t *testing.T) (all []*transfer.Record) {
	t.Helper()
	for _, a := range answers {
		rec := new(transfer.Record)
		require.NoError(t, json.Unmarshal([]byte(a.json), rec))
		rec.Kind = a.kind
		all = append(all, rec)
	}
	return all
}

func TestAnswersOfTheAPIAreRecords(t *testing.T) {
	all := records(t)
	s, err := all[0].Parse()
	require.NoError(t, err)
	require.Equal(t, objects.ServiceSettings{FriendlyName: "shop", WebhookURL: "https://a.example/?x=1", WebhooksFromREST: true, ACLEnabled: true, DebounceWindow: 5000}, s.Service.ServiceSettings)
	d, err := all[1].Parse()
	require.NoError(t, err)
	require.Equal(t, service, d.Of.String())
	require.EqualValues(t, 0x1f, d.Object.EventID)
	require.Equal(t, `{"n":12345678901234567890,"t":"<\ud800>"}`, string(d.Object.Data))
	require.Equal(t, "alice", d.Object.CreatedBy)
	require.Equal(t, time.Date(2015, 7, 30, 20, 0, 1, 0, time.UTC).UnixMilli(), d.Object.Updated)
	l, err := all[2].Parse()
	require.NoError(t, err)
	require.Equal(t, time.Date(2035, 7, 30, 20, 0, 0, 0, time.UTC).UnixMilli(), l.Object.Expires)
	i, err := all[3].Parse()
	require.NoError(t, err)
	require.Equal(t, aList, i.Of.String())
	require.Equal(t, `0`, string(i.Item.Data))
	i, err = all[5].Parse()
	require.NoError(t, err)
	require.Equal(t, `[1,2]`, string(i.Item.Data))
	p, err := all[6].Parse()
	require.NoError(t, err)
	require.Equal(t, objects.Permission{Identity: "alice", Rights: objects.Read | objects.Manage}, *p.Permission)
}

func TestWhatIsNoRecordIsRefused(t *testing.T) {
	for bad, want := range map[string]*objects.Error{
		`{"kind":"thing","service_sid":"` + service + `"}`:                                                   objects.ErrParameter,
		`{"kind":"document","service_sid":"default","sid":"` + aDoc + `","data":1}`:                          objects.ErrParameter,
		`{"kind":"document","service_sid":"` + service + `","sid":"` + aMap + `","data":1}`:                  objects.ErrParameter,
		`{"kind":"document","service_sid":"` + service + `","sid":"` + aDoc + `","data":null}`:               objects.ErrDocumentNull,
		`{"kind":"document","service_sid":"` + service + `","sid":"` + aDoc + `"}`:                           objects.ErrDocumentNull,
		`{"kind":"map","service_sid":"` + service + `","sid":"` + aMap + `","unique_name":"` + aMap + `"}`:   objects.ErrName,
		`{"kind":"map","service_sid":"` + service + `","sid":"` + aMap + `","date_created":"yesterday"}`:     objects.ErrParameter,
		`{"kind":"map_item","map_sid":"` + aMap + `","data":1}`:                                              objects.ErrMapItemKey,
		`{"kind":"map_item","map_sid":"` + aMap + `","key":"k","data":"` + strings.Repeat("x", 20000) + `"}`: objects.ErrTooLarge,
		`{"kind":"list_item","list_sid":"` + aList + `","data":1}`:                                           objects.ErrIndex,
		`{"kind":"permission","map_sid":"` + aStream + `","identity":"alice"}`:                               objects.ErrParameter,
		`{"kind":"permission","map_sid":"` + aList + `","identity":"alice"}`:                                 objects.ErrParameter,
		`{"kind":"permission","map_sid":"` + aMap + `","list_sid":"` + aList + `","identity":"alice"}`:       objects.ErrParameter,
		`{"kind":"permission","identity":"alice"}`:                                                           objects.ErrParameter,
		`{"kind":"map_item","map_sid":"` + aList + `","key":"k","data":1}`:                                   objects.ErrParameter,
		`{"kind":"map","service_sid":"` + aMap + `","sid":"` + aMap + `"}`:                                   objects.ErrParameter,
		`{"kind":"permission","map_sid":"` + aMap + `"}`:                                                     objects.ErrIdentity,
		`{"kind":"service","sid":"` + service + `","unique_name":"shop"}`:                                    objects.ErrName,
		`{"kind":"service","sid":"` + service + `","webhook_url":"nowhere"}`:                                 objects.ErrWebhookURL,
		`{"kind":"service","sid":"` + service + `","reachability_debouncing_window":1}`:                      objects.ErrParameter,
	} {
		var rec transfer.Record
		require.NoError(t, json.Unmarshal([]byte(bad), &rec))
		_, err := rec.Parse()
		require.ErrorIs(t, err, want, bad)
	}
}

func TestRevisionThatIsNoneIsToldOf(t *testing.T) {
	for revision, kept := range map[string]bool{"": true, "0": true, "1f": true, "1F": false, "x-7": false, "01": false, "ffffffffffffffff": false} {
		require.Equal(t, kept, (&transfer.Record{Revision: revision}).KeepsRevision(), revision)
	}
}

func file(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := transfer.NewWriter(&b, "http://x", time.Unix(1_700_000_000, 0))
	require.NoError(t, err)
	for _, rec := range records(t) {
		require.NoError(t, w.Write(rec))
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestFileIsReadAsItWasWritten(t *testing.T) {
	b := file(t)
	r, err := transfer.NewReader(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, transfer.Header{Format: 1, Source: "http://x", Created: "2023-11-14T22:13:20Z"}, r.Header())
	for _, want := range records(t) {
		got, err := r.Read()
		require.NoError(t, err)
		a, err := want.Parse()
		require.NoError(t, err)
		p, err := got.Parse()
		require.NoError(t, err)
		require.Equal(t, a, p)
	}
	_, err = r.Read()
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, b, file(t), "the same each time")
}

func read(b []byte) error {
	r, err := transfer.NewReader(bytes.NewReader(b))
	for err == nil {
		_, err = r.Read()
	}
	return err
}

// Whatever is cut off or changed is noticed, wherever it is.
func TestDamagedFileIsNoFile(t *testing.T) {
	b := file(t)
	require.ErrorIs(t, read(b), io.EOF)
	for n := range len(b) - 1 {
		require.ErrorIs(t, read(b[:n]), transfer.ErrFile, "cut off after %d bytes", n)
	}
	for n := range b {
		damaged := bytes.Clone(b)
		damaged[n] ^= 1
		err := read(damaged)
		// The line's end may become another white space behind the last line.
		require.True(t, errors.Is(err, transfer.ErrFile) || n == len(b)-1, "byte %d: %v", n, err)
	}
	require.ErrorIs(t, read(append(bytes.Clone(b), "more\n"...)), transfer.ErrFile)
	newer := bytes.Replace(b, []byte(`"lockstep_export":1`), []byte(`"lockstep_export":2`), 1)
	require.ErrorContains(t, read(newer), "it is of form 2, and this one reads up to 1")
}
