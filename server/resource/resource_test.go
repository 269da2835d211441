package resource_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"lockstep/objects"
	"lockstep/server/resource"
)

const (
	zeros = "00000000000000000000000000000"
	is    = "IS001" + zeros
	base  = "http://h:1/v1/Services/" + is
	ac    = "AC001" + zeros
)

func sid(kind objects.Kind) objects.SID { return objects.NewSID(kind, [16]byte{0, 0x10}) }

func object(kind objects.Kind) *objects.Object {
	return &objects.Object{
		SID: sid(kind), ServiceSID: sid(objects.KindService), UniqueName: `n"<`, EventID: 26, Created: 1_772_600_767_890, Updated: 1_772_600_768_000,
		CreatedBy: "ann", Data: []byte(`{"a":1e400}`),
	}
}

var (
	rest     = resource.Encoder{Origin: "http://h:1", Account: ac}
	realtime = resource.Encoder{Origin: "http://h:1", Account: ac, Protocol: resource.Realtime}
)

func TestEveryResourceOfBothProtocols(t *testing.T) {
	const (
		owner    = `"account_sid":"` + ac + `","service_sid":"` + is + `"`
		seconds  = `"date_created":"2026-03-04T05:06:07Z","date_updated":"2026-03-04T05:06:08Z"`
		millis   = `"date_created":"2026-03-04T05:06:07.890Z","date_updated":"2026-03-04T05:06:08.000Z"`
		by       = `"created_by":"ann"`
		revision = `"revision":"1a"`
		event    = `"last_event_id":26`
		never    = `"date_expires":null`
	)
	v3 := "http://h:1/v3"
	et, es, mp, to := "ET001"+zeros, "ES001"+zeros, "MP001"+zeros, "TO001"+zeros
	item := &objects.Item{
		Index: 3, Revision: 26, EventID: 27, Created: 1_772_600_767_890, Updated: 1_772_600_768_000,
		Expires: 1_772_600_828_000, CreatedBy: "ann", Data: []byte(`17`),
	}
	keyed := *item
	keyed.Key = "a/ü+"
	permission := &objects.Permission{Identity: "a b", Rights: objects.Read | objects.Manage}
	service := &objects.Service{SID: sid(objects.KindService), UniqueName: "default", Created: 1_772_600_767_890, Updated: 1_772_600_768_000}
	for i, x := range []struct{ got, want string }{
		{string(rest.Object(nil, object(objects.KindDocument), resource.WithData)),
			`{"sid":"` + et + `","unique_name":"n\"<",` + owner + `,` + revision + `,"data":{"a":1e400},` + never + `,` + seconds + `,` + by +
				`,"url":"` + base + `/Documents/` + et + `","links":{"permissions":"` + base + `/Documents/` + et + `/Permissions"}}`},
		{string(rest.Lease(nil, resource.Lease{ID: "LE1", Service: sid(objects.KindService), TTL: 10, Items: 2, Created: 1_772_600_767_890, Expires: 1_772_600_768_000})),
			`{"sid":"LE1",` + owner + `,"ttl":10,"items":2,"date_created":"2026-03-04T05:06:07Z","date_expires":"2026-03-04T05:06:08Z","url":"` + base + `/Leases/LE1"}`},
		{string(rest.Object(nil, object(objects.KindList), resource.WithData)),
			`{"sid":"` + es + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + never + `,` + seconds + `,` + by +
				`,"url":"` + base + `/Lists/` + es + `","links":{"items":"` + base + `/Lists/` + es + `/Items","permissions":"` + base + `/Lists/` + es + `/Permissions"}}`},
		{string(rest.Object(nil, object(objects.KindStream), resource.WithData)),
			`{"sid":"` + to + `","unique_name":"n\"<",` + owner + `,` + never + `,` + seconds + `,` + by +
				`,"url":"` + base + `/Streams/` + to + `","links":{"messages":"` + base + `/Streams/` + to + `/Messages"}}`},
		{string(realtime.Object(nil, object(objects.KindDocument), resource.WithData)),
			`{"sid":"` + et + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + event + `,"data":{"a":1e400},` + never + `,` + millis + `,` + by +
				`,"url":"` + v3 + `/Documents/` + et + `","links":{}}`},
		{string(realtime.Object(nil, object(objects.KindDocument), resource.WithoutData)),
			`{"sid":"` + et + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + event + `,` + never + `,` + millis + `,` + by +
				`,"url":"` + v3 + `/Documents/` + et + `","links":{}}`},
		{string(realtime.Object(nil, object(objects.KindList), resource.WithData)),
			`{"sid":"` + es + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + event + `,` + never + `,` + millis + `,` + by +
				`,"url":"` + v3 + `/Lists/` + es + `","links":{"items":"` + v3 + `/Lists/` + es + `/Items","context":"` + v3 + `/Lists/` + es + `/Context"}}`},
		{string(realtime.Object(nil, object(objects.KindMap), resource.WithData)),
			`{"sid":"` + mp + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + event + `,` + never + `,` + millis + `,` + by +
				`,"url":"` + v3 + `/Maps/` + mp + `","links":{"items":"` + v3 + `/Maps/` + mp + `/Items"}}`},
		{string(realtime.Object(nil, object(objects.KindStream), resource.WithData)),
			`{"sid":"` + to + `","unique_name":"n\"<",` + owner + `,` + revision + `,` + event + `,` + never + `,` + millis + `,` + by +
				`,"url":"` + v3 + `/Streams/` + to + `","links":{"messages":"` + v3 + `/Streams/` + to + `/Messages"}}`},
		{string(rest.Item(nil, object(objects.KindList), item, resource.WithData)),
			`{"index":3,` + owner + `,"list_sid":"` + es + `",` + revision + `,"data":17,"date_expires":"2026-03-04T05:07:08Z",` + seconds + `,` + by +
				`,"url":"` + base + `/Lists/` + es + `/Items/3"}`},
		{string(realtime.Item(nil, object(objects.KindMap), &keyed, resource.WithoutData)),
			`{"key":"a/ü+",` + owner + `,"map_sid":"` + mp + `",` + revision + `,"last_event_id":27,"date_expires":"2026-03-04T05:07:08.000Z",` + millis + `,` + by +
				`,"url":"` + v3 + `/Maps/` + mp + `/Items/a%2F%C3%BC%2B"}`},
		{string(rest.Permission(nil, object(objects.KindMap), permission)),
			`{"identity":"a b",` + owner + `,"map_sid":"` + mp + `","read":true,"write":false,"manage":true,"url":"` + base + `/Maps/` + mp + `/Permissions/a%20b"}`},
		{string(rest.Service(nil, service)),
			`{"sid":"` + is + `","unique_name":"default","account_sid":"` + ac + `","friendly_name":null,` + seconds +
				`,"webhook_url":null,"webhooks_from_rest_enabled":false,"reachability_webhooks_enabled":false,"acl_enabled":false` +
				`,"reachability_debouncing_enabled":false,"reachability_debouncing_window":0,"url":"` + base +
				`","links":{"documents":"` + base + `/Documents","lists":"` + base + `/Lists","maps":"` + base + `/Maps","streams":"` + base + `/Streams"}}`},
		{string(rest.Message(nil, sid(objects.KindMessage), []byte("1"))), `{"sid":"TZ001` + zeros + `","data":1}`},
		{string(realtime.Message(nil, sid(objects.KindMessage), []byte("1"))), `{"sid":"TZ001` + zeros + `"}`},
	} {
		require.Equal(t, x.want, x.got, "case %d", i)
		require.True(t, json.Valid([]byte(x.got)), "case %d", i)
	}
}

func TestEncodersAppend(t *testing.T) {
	o := object(objects.KindDocument)
	require.Equal(t, `[`+string(rest.Object(nil, o, resource.WithData)), string(rest.Object([]byte("["), o, resource.WithData)))
	o.Data = nil
	require.Contains(t, string(rest.Object(nil, o, resource.WithData)), `"data":null`, "what is gone is null")
}

func BenchmarkObject(b *testing.B) {
	o := object(objects.KindDocument)
	buffer := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		buffer = rest.Object(buffer[:0], o, resource.WithData)
	}
}

func TestDatesAreThoseOfPackageTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64Range(-62_135_596_800_000, 260_000_000_000_000).Filter(func(ms int64) bool { return ms != 0 }).Draw(t, "unix ms") // to beyond the year 9999
		at := time.UnixMilli(ms).UTC()
		require.Equal(t, at.Format(`"2006-01-02T15:04:05Z"`), string(rest.Date(nil, ms)))
		require.Equal(t, at.Format(`"2006-01-02T15:04:05.000Z"`), string(realtime.Date(nil, ms)))
	})
}
