package report

import "slices"

// Scenario says what is measured, and how its table looks.
type Scenario struct {
	Name, About string
	Counts      string // what N is
	Columns     []Column
	Base        string // row that the first column's ratio is to; empty: none
	Grows       bool   // measured from small to large: its chart has N as an axis
	Once        bool   // not repeated: it repeats by itself, or takes long
}

// Column is a metric with its title. The first one of a scenario comes with spread
// and ratio.
type Column struct{ Metric, Title string }

var (
	closedLoop = []Column{{PerSecond, "per s"}, {P50, "p50 ms"}, {P99, "p99 ms"}, {CPU, "CPU µs an operation"}, {Errors, "errors"}}
	cost       = []Column{{CPU, "CPU µs an operation"}, {PerSecond, "per s"}, {P50, "p50 ms"}, {P99, "p99 ms"}, {Errors, "errors"}}
)

// Rows that others are compared to.
const (
	EtcdPut     = "etcd gRPC put, leader"
	EtcdGet     = "etcd gRPC linearizable get, follower"
	EtcdWatch   = "etcd put → watch"
	EtcdKill    = "etcd, leader killed"
	EtcdMillion = "etcd keys"
	Centrifuge  = "centrifuge, one channel"
)

// Scenarios are all that there are.
var Scenarios = []Scenario{
	{
		Name: "writes", About: "durable writes of 256 bytes, each client one after another", Counts: "clients", Columns: closedLoop, Base: EtcdPut,
	},
	{
		Name: "reads", About: "linearizable reads of 256 bytes, each client one after another", Counts: "clients", Columns: closedLoop, Base: EtcdGet,
	},
	{
		Name: "fanout", About: "one object's messages of 256 bytes to all subscribers: as fast as eight under way allow, then at 20,000 deliveries a second", Counts: "subscribers", Base: Centrifuge,
		Columns: []Column{{PerSecond, "deliveries/s"}, {CPU, "CPU µs a delivery"}, {"paced_p50_ms", "paced p50 ms"}, {"paced_p99_ms", "paced p99 ms"}, {Errors, "lost"}},
	},
	{
		Name: "idle", About: "memory of subscribed connections over which nothing comes", Counts: "subscribers", Base: Centrifuge,
		Columns: []Column{{Each, "RSS KiB a subscriber"}},
	},
	{
		Name: "watch", About: "as many objects, each with one subscriber; 500 writes a second through one node, heard on another", Counts: "objects", Base: EtcdWatch,
		Columns: []Column{{P50, "written → heard, p50 ms"}, {P99, "p99 ms"}, {"acked_p50_ms", "acknowledged → heard, p50 ms"}, {"ack_p50_ms", "written → acknowledged, p50 ms"}, {CPU, "CPU µs a write"}, {Errors, "errors"}},
	},
	{
		Name: "failover", About: "kill -9 of the leader, until the first write that began afterwards is acknowledged", Counts: "nodes", Base: EtcdKill, Once: true,
		Columns: []Column{{Millis, "median ms"}, {Worst, "worst ms"}},
	},
	{
		Name: "million", About: "many small objects (a map with one item; a key), --objects of them", Counts: "objects", Base: EtcdMillion, Once: true,
		Columns: []Column{{RSS, "RSS MiB a server"}, {"ready_ms", "restart to ready, ms"}, {"made_per_s", "made per s"}, {"quiet_max_ms", "longest write, ms"}, {"snapshot_max_ms", "the same while a snapshot is taken, ms"}},
	},
	{Name: "growth-objects", About: "updates and reads of documents, 64 clients, with so many documents", Counts: "documents", Columns: cost, Grows: true, Once: true},
	{Name: "growth-items", About: "updates and reads of items, 64 clients, in one map of so many items", Counts: "items", Columns: cost, Grows: true, Once: true},
	{Name: "growth-subscribers", About: "deliveries of one stream to so many subscribers over all nodes", Counts: "subscribers", Columns: cost, Grows: true, Once: true},
	{Name: "growth-nodes", About: "writes and reads of 256 clients over so many nodes", Counts: "nodes", Columns: cost, Grows: true, Once: true},
	{
		Name: "nonvoters", About: "three voters and so many nonvoters, each node with a tenth of a processor: deliveries of one stream to 1,000 subscribers on each node that has clients, as fast as they go, then 25 writes a second through the leader", Counts: "nonvoters", Grows: true,
		Columns: []Column{{PerSecond, "deliveries/s"}, {CPU, "CPU µs a delivery"}, {"used_up", "% of the time at the limit, busiest node"}, {"write_p50_ms", "write p50 ms"}, {"write_p99_ms", "write p99 ms"}, {Errors, "lost"}},
	},
	{
		Name: "growth-connections", About: "updates of documents by 64 clients while so many others are subscribed to what does not change", Counts: "connections", Grows: true, Once: true,
		Columns: append(slices.Clone(cost), Column{Each, "RSS KiB a connection"}),
	},
}

// Find returns a scenario by its name.
func Find(name string) (Scenario, bool) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return Scenarios[i], true
}
