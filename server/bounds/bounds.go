// Package bounds is the one table of what a node holds at most: each bound is
// one field of Bounds, and from the field come its flag, its environment
// variable, its default, and its row in docs/limits.md.
//
// To add a bound, add a field with its tags, pass its value on to the package
// that enforces it, and run `go test ./server/bounds -update`.
//
// The package only describes and parses. Enforcing is the business of the
// packages that hold the things, each of which has a field in its own Config
// that reads the same way: zero is the default and, where it may be switched off,
// a negative value is no bound.
package bounds

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Bounds are the bounds of one node. The zero value of a field stands for its
// default, and -1 for no bound, which only some have.
//
// The tags of a field:
//
//	name     of the flag; the variable is LOCKSTEP_ and the name in capitals
//	default  as on the command line
//	help     what is bounded
//	full     what happens beyond it
//	off      "yes": the bound may be switched off; "load": it may, and
//	         --rate-limits=off does, since a load test from one address or one
//	         identity would meet it
type Bounds struct {
	Sessions           int           `name:"max-sessions" default:"50000" off:"yes" help:"realtime sessions of this node at a time" full:"a new one is answered 503"`
	QueueLength        int           `name:"queue-length" default:"1024" help:"events that wait for one realtime client" full:"subscriptions fall behind and catch up from the state"`
	QueueBytes         Bytes         `name:"queue-bytes" default:"1MiB" help:"and their bytes" full:"likewise"`
	RequestsPerSession int           `name:"requests-per-session" default:"64" help:"requests of one realtime client under way at a time" full:"the node reads no further from it"`
	InitTimeout        time.Duration `name:"init-timeout" default:"10s" help:"time for a realtime client to introduce itself" full:"its connection is closed"`
	FailureDelay       time.Duration `name:"failure-delay" default:"500ms" off:"load" help:"by which the answer to wrong credentials is delayed" full:"the answer comes then"`
	FailuresWaiting    int           `name:"failures-waiting" default:"256" help:"such answers that are delayed at a time, a sixteenth of them for one address" full:"further ones come at once, and their connections are closed"`

	WebhookRequests           int           `name:"webhook-requests" default:"256" help:"webhook requests under way at a time; receivers that do not answer promptly have half of them between them" full:"a delivery waits for its turn"`
	WebhookRequestsPerService int           `name:"webhook-requests-per-service" default:"16" help:"and of these, for one service" full:"likewise"`
	WebhookRequestsPerHost    int           `name:"webhook-requests-per-host" default:"64" help:"and to one host" full:"likewise"`
	WebhookTimeout            time.Duration `name:"webhook-timeout" default:"15s" help:"time for a receiver to answer a webhook" full:"the request is given up, and made again later"`
	Connections               int           `name:"max-connections" default:"60000" off:"yes" help:"connections to the HTTP port, websockets among them; as many to --admin-addr" full:"one without a request gives way, the oldest of the source address with most; without such a one the newcomer is closed"`
	ConnectionsPerSource      int           `name:"max-connections-per-source" default:"20000" off:"load" help:"those of one source address, other than trusted proxies" full:"likewise, among its own"`
	SessionsPerIdentity       int           `name:"max-sessions-per-identity" default:"1000" off:"load" help:"realtime sessions of one identity on this node" full:"a new one is answered 429 with backoff"`
	SessionsPerSource         int           `name:"max-sessions-per-source" default:"10000" off:"load" help:"realtime sessions of one source address on this node" full:"likewise"`
	ConnectsPerIdentity       float64       `name:"connects-per-identity" default:"50" off:"load" help:"new realtime sessions of one identity a second, ten seconds' worth at once" full:"likewise"`
	ConnectsPerSource         float64       `name:"connects-per-source" default:"200" off:"load" help:"new realtime connections of one source address a second, ten seconds' worth at once" full:"a new one is answered 429"`
	UnknownKeysPerSource      float64       `name:"unknown-keys-per-source" default:"10" off:"load" help:"tokens of keys that this node does not know, of one source address a second, for which it asks the leader" full:"they are answered 429 with backoff"`
	Arrivals                  int           `name:"max-arrivals" default:"2000" off:"yes" help:"realtime connections that have not introduced themselves" full:"the oldest one of the source address with most is closed"`
	ArrivalsPerSource         int           `name:"max-arrivals-per-source" default:"500" off:"load" help:"those of one source address" full:"its oldest one is closed"`

	InitBytes              Bytes   `name:"init-bytes" default:"16KiB" help:"the first message of a realtime client" full:"its connection is closed"`
	MessageBytes           Bytes   `name:"message-bytes" default:"64KiB" help:"a later message" full:"it is answered 413, and not kept"`
	DiscardBytes           Bytes   `name:"discard-bytes" default:"8MiB" help:"a message that is refused for its size" full:"the connection is closed"`
	SessionByteRate        Bytes   `name:"session-byte-rate" default:"2MiB" off:"load" help:"what one realtime client sends a second, eight seconds' worth at once" full:"it is read no faster"`
	IdentityRequests       float64 `name:"identity-requests" default:"2000" off:"load" help:"requests of all realtime sessions of one identity a second, a quarter of that at once" full:"they are read no faster"`
	FloodRefusals          int     `name:"flood-refusals" default:"2000" off:"load" help:"requests, pings and other messages of one session that are refused for their number in ten seconds" full:"the session is told to stay away for ten seconds, and ends; those of its identity that come back at once are read no faster"`
	SessionRequestBytes    Bytes   `name:"session-request-bytes" default:"1MiB" help:"requests of one realtime session under way" full:"the node reads no further from it"`
	IdentityRequestBytes   Bytes   `name:"identity-request-bytes" default:"4MiB" off:"load" help:"requests of all realtime sessions of one identity under way" full:"a new one is answered 429 with backoff"`
	CredentialRequestBytes Bytes   `name:"credential-request-bytes" default:"32MiB" off:"load" help:"bodies of REST requests of one API key, or of the account, under way" full:"a new one is answered 429"`
	RequestBytes           Bytes   `name:"request-bytes" default:"64MiB" help:"both of all clients of this node" full:"likewise"`
	IdentityAnswerBytes    Bytes   `name:"identity-answer-bytes" default:"16MiB" off:"load" help:"answers that wait for the realtime clients, or the live readers, of one identity to take them" full:"its next ones wait to be written"`
	AnswerBytes            Bytes   `name:"answer-bytes" default:"128MiB" help:"answers that wait for all realtime clients and live readers of this node" full:"likewise"`

	SlowBytes  Bytes         `name:"slow-bytes" default:"512KiB" help:"what waits for a realtime client that takes less than slow-rate" full:"after slow-window it is disconnected"`
	SlowRate   Bytes         `name:"slow-rate" default:"32KiB" off:"yes" help:"what a realtime client takes a second, at least, when slow-bytes wait" full:"likewise"`
	SlowWindow time.Duration `name:"slow-window" default:"20s" help:"for how long it may be slower" full:"likewise"`

	LiveQueriesPerIdentity int   `name:"live-queries-per-identity" default:"100" off:"load" help:"different live queries of one identity on this node" full:"a new one is refused (subscription_failed, 429)"`
	LiveQueriesPerMap      int   `name:"live-queries-per-map" default:"1000" off:"load" help:"different live queries over one map on this node" full:"likewise"`
	LiveQueries            int   `name:"max-live-queries" default:"10000" help:"different live queries on this node" full:"likewise"`
	LiveQueryBacklog       int   `name:"live-query-backlog" default:"1024" help:"changes of one map that wait to be compared with its live queries" full:"they are thrown away, and the live queries catch up from the state"`
	LiveQueryMapBytes      Bytes `name:"live-query-map-bytes" default:"1MiB" help:"and their bytes" full:"likewise"`
	LiveQueryBytes         Bytes `name:"live-query-bytes" default:"64MiB" help:"those of all maps of this node" full:"likewise"`
	LiveQueryResultBytes   Bytes `name:"live-query-result-bytes" default:"64MiB" help:"encoded results of live queries that are kept for the next client that asks" full:"a result is encoded again for each client that asks"`

	LiveReaders            int           `name:"max-live-readers" default:"10000" off:"yes" help:"readers over HTTP of this node that wait for what comes (long-poll and server-sent events)" full:"a new one is answered 503"`
	LiveReadersPerIdentity int           `name:"live-readers-per-identity" default:"1000" off:"load" help:"those of one identity or credential" full:"a new one is answered 429"`
	LongPoll               time.Duration `name:"long-poll" default:"20s" help:"time that a long-poll waits" full:"it is answered that there is nothing new"`

	InternalStrangers          int     `name:"internal-strangers" default:"512" help:"connections to the internal port that have not proved to be a member's" full:"the oldest one of the source address with most is closed"`
	InternalStrangersPerSource int     `name:"internal-strangers-per-source" default:"128" help:"those of one source address" full:"its oldest one is closed"`
	InternalMembers            int     `name:"internal-connections" default:"512" help:"connections of members to the internal port" full:"the oldest one of the member with most is closed"`
	InternalPerMember          int     `name:"internal-connections-per-member" default:"32" help:"those of one member, which needs fewer than ten" full:"its oldest one is closed"`
	GossipStreams              int     `name:"gossip-streams" default:"64" help:"TCP connections to the gossip port" full:"the oldest one of the source address with most is closed"`
	GossipStreamsPerSource     int     `name:"gossip-streams-per-source" default:"16" help:"those of one source address" full:"its oldest one is closed"`
	GossipStreamBytes          Bytes   `name:"gossip-stream-bytes" default:"256KiB" help:"what comes on one of them; a member sends some 250 bytes for each node, 700 at most" full:"it is closed"`
	GossipPackets              float64 `name:"gossip-packets" default:"10000" help:"UDP packets to the gossip port that are read a second" full:"the kernel drops them"`

	StateBytes   Memory `name:"max-state-bytes" default:"40%" off:"yes" help:"memory of the whole state, which every node holds; a share is of the machine's or its cgroup's" full:"what grows is refused (507, 54901); removals, expiry and writes that shrink pass"`
	ServiceBytes Memory `name:"max-service-bytes" default:"off" off:"yes" help:"and of the objects of one service" full:"likewise (507, 54902)"`
	FeedBytes    Bytes  `name:"feed-bytes" default:"64MiB" help:"events that a node keeps for its slow followers within" full:"the oldest go, and followers that had not read them catch up from the state"`
	DiskReserve  Bytes  `name:"disk-reserve" default:"256MiB" off:"yes" help:"room on the disk of the data directory that is kept for removals and for what the node does itself" full:"where this node leads, or a majority has less, all writes but removals and changes of secrets are refused (507, 54906) until there is room"`
	LogBytes     Bytes  `name:"trailing-log-bytes" default:"256MiB" help:"log entries that stay behind a snapshot, besides --trailing-logs, and that are written before the next one; an eighth of the state if that is less, and 64 MiB at least" full:"a snapshot is taken; a node that was away for longer gets one"`
}

// Memory is a size, or a share of the memory that the process may use: 2GiB or
// 40% on the command line. Values up to 100 are percent.
type Memory int64

// Of returns the size in bytes, given the memory that the process may use; 0 if
// that is not known, and -1 for no bound.
func (m Memory) Of(total int64) int64 {
	if m > 0 && m <= 100 {
		return total / 100 * int64(m)
	}
	return int64(m)
}

// String returns the size or share as on the command line.
func (m Memory) String() string {
	if m <= 100 {
		return strconv.FormatInt(int64(m), 10) + "%"
	}
	return Bytes(m).String()
}

func parseMemory(text string) (Memory, error) {
	if digits, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseUint(digits, 10, 8)
		if err != nil || n > 100 {
			return 0, fmt.Errorf("%q is not a share from 1%% to 100%%", text)
		}
		return Memory(n), nil
	}
	n, err := ParseBytes(text)
	if err == nil && n > 0 && n <= 100 {
		err = errors.New("must be above 100 bytes")
	}
	return Memory(n), err
}

// Bytes is a size: 1024, 64KiB, 1MiB or 2GiB on the command line.
type Bytes int64

// Bound is one row of the table.
type Bound struct {
	Name, Variable, Default, Help, Full string

	Optional bool // may be switched off
	Lifted   bool // is, by --rate-limits=off

	value *value
}

// Flags adds a flag for each bound.
func (b *Bounds) Flags(flags *pflag.FlagSet) {
	for _, row := range b.table() {
		usage := row.Help
		if row.Optional {
			usage += `, or "off"`
		}
		flags.Var(row.value, row.Name, usage)
		flags.Lookup(row.Name).DefValue = row.Default
	}
}

// Lift takes away the bounds that a load test from one address or one identity
// would meet, except for those that were set.
func (b *Bounds) Lift() {
	for _, row := range b.table() {
		if row.Lifted && row.value.String() == "" {
			if err := row.value.Set(off); err != nil {
				panic(err) // what is lifted may be switched off
			}
		}
	}
}

// WithDefaults returns the bounds with each one that was not set at its default.
func (b Bounds) WithDefaults() Bounds {
	for _, row := range b.table() {
		if row.value.String() == "" {
			if err := row.value.Set(row.Default); err != nil {
				panic(fmt.Sprintf("bounds: default of %s: %v", row.Name, err)) // a test sets them all
			}
		}
	}
	return b
}

// Table returns all bounds, in the order of their fields.
func Table() []Bound { return new(Bounds).table() }

func (b *Bounds) table() []Bound {
	fields := reflect.ValueOf(b).Elem()
	rows := make([]Bound, fields.NumField())
	for i := range rows {
		tag := fields.Type().Field(i).Tag
		name, switchable := tag.Get("name"), tag.Get("off")
		rows[i] = Bound{
			Name: name, Variable: "LOCKSTEP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")),
			Default: tag.Get("default"), Help: tag.Get("help"), Full: tag.Get("full"),
			Optional: switchable != "", Lifted: switchable == "load",
			value: &value{fields.Field(i), switchable != ""},
		}
	}
	return rows
}

// off on the command line is no bound; in the field it is -1.
const off = "off"

var errPositive = errors.New("must be above 0")

// value is a field as a pflag.Value.
type value struct {
	field    reflect.Value
	optional bool
}

// String implements pflag.Value. A bound that was not set is empty.
func (v *value) String() string {
	if !v.field.IsValid() || v.field.IsZero() {
		return ""
	}
	switch x := v.field.Interface().(type) {
	case time.Duration:
		if x > 0 {
			return x.String()
		}
	case float64:
		if x > 0 {
			return strconv.FormatFloat(x, 'g', -1, 64)
		}
	case Bytes:
		if x > 0 {
			return x.String()
		}
	case Memory:
		if x > 0 {
			return x.String()
		}
	case int:
		if x > 0 {
			return strconv.Itoa(x)
		}
	}
	return off
}

// Set implements pflag.Value.
func (v *value) Set(text string) error {
	if text == off && v.optional {
		if v.field.CanInt() {
			v.field.SetInt(-1)
		} else {
			v.field.SetFloat(-1)
		}
		return nil
	}
	switch v.field.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		return v.set(reflect.ValueOf(d), d > 0, err)
	case float64:
		f, err := strconv.ParseFloat(text, 64)
		return v.set(reflect.ValueOf(f), f > 0 && f <= 1e12, err)
	case Bytes:
		n, err := ParseBytes(text)
		return v.set(reflect.ValueOf(n), n > 0, err)
	case Memory:
		n, err := parseMemory(text)
		return v.set(reflect.ValueOf(n), n > 0, err)
	}
	n, err := strconv.Atoi(text)
	return v.set(reflect.ValueOf(n), n > 0, err)
}

func (v *value) set(x reflect.Value, valid bool, err error) error {
	if err == nil && !valid {
		err = errPositive
	}
	if err == nil {
		v.field.Set(x)
	}
	return err
}

// Type implements pflag.Value: the word for the value in the help.
func (v *value) Type() string {
	switch v.field.Interface().(type) {
	case time.Duration:
		return "duration"
	case float64:
		return "number"
	case Bytes, Memory:
		return "size"
	}
	return "int"
}

var units = []struct {
	suffix string
	size   Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// ParseBytes reads a whole number of bytes, KiB, MiB or GiB.
func ParseBytes(text string) (Bytes, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n > int64(1<<62/u.size) {
			break
		}
		return Bytes(n) * u.size, nil
	}
	return 0, fmt.Errorf("%q is not a size such as 65536, 64KiB, 1MiB or 2GiB", text)
}

// String returns the size in its largest whole unit.
func (b Bytes) String() string {
	for _, u := range units {
		if b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
