package main

import (
	"lockstep/cmd/lockstep/bench/internal/lockstep"
	"lockstep/cmd/lockstep/bench/internal/report"
)

// targets are what the product is to reach. Where the machine is too small to give
// each server cores of its own, a ratio in one run is all that can be said.
var targets = []report.Target{
	{Work: "durable writes by REST, all nodes, 256 clients, per s", Scenario: "writes", Row: lockstep.WritesAll, N: 256, Metric: report.PerSecond, Against: "etcd gRPC put, leader", Base: report.EtcdPut, Goal: 2},
	{Work: "durable writes by the realtime protocol, all nodes, 256 clients, per s", Scenario: "writes", Row: lockstep.WritesRealtime, N: 256, Metric: report.PerSecond, Against: "etcd gRPC put, leader", Base: report.EtcdPut, Goal: 2.5},
	{Work: "one client alone, leader, writes per s", Scenario: "writes", Row: lockstep.WritesLeader, N: 1, Metric: report.PerSecond, Against: "etcd gRPC put, leader", Base: report.EtcdPut, Goal: 1},
	{Work: "linearizable reads by REST, all nodes, 256 clients, per s", Scenario: "reads", Row: lockstep.ReadsAll, N: 256, Metric: report.PerSecond, Against: "etcd gRPC get, follower", Base: report.EtcdGet, Goal: 2},
	{Work: "fan-out of one object, 1,000 subscribers, all nodes, deliveries per s", Scenario: "fanout", Row: lockstep.FanoutAll, N: 1000, Metric: report.PerSecond, Against: "centrifuge", Base: report.Centrifuge, Goal: 1.2},
	{Work: "the same, every delivery acknowledged", Scenario: "fanout", Row: lockstep.FanoutAcknowledged, N: 1000, Metric: report.PerSecond, Against: "centrifuge, which has none", Base: report.Centrifuge, Goal: 0.6},
	{Work: "5,000 subscribers, all nodes, deliveries per s", Scenario: "fanout", Row: lockstep.FanoutAll, N: 5000, Metric: report.PerSecond, Against: "centrifuge", Base: report.Centrifuge, Goal: 3},
	{Work: "idle subscribed connection, KiB", Scenario: "idle", Row: lockstep.Idle, N: 5000, Metric: report.Each, Against: "itself", Goal: 9, Most: true},
	{Work: "5,000 objects, one subscriber each: written on one node → heard on another, p50 ms", Scenario: "watch", Row: lockstep.Watch, N: 5000, Metric: report.P50, Against: "etcd put → watch", Base: report.EtcdWatch, Goal: 1, Most: true},
	{Work: "`kill -9` of the leader → next acknowledged write, worst, ms", Scenario: "failover", Row: lockstep.Failover, N: 3, Metric: report.Worst, Against: "etcd, median", Base: report.EtcdKill, BaseMetric: report.Millis, Goal: 0.1, Most: true},
	{Work: "maps of one item: memory of a node, MiB", Scenario: "million", Row: lockstep.Million, Metric: report.RSS, Against: "etcd, as many keys", Base: report.EtcdMillion, Goal: 1, Most: true},
	{Work: "the same: restart to ready, ms", Scenario: "million", Row: lockstep.Million, Metric: "ready_ms", Against: "etcd, as many keys", Base: report.EtcdMillion, Goal: 0.5, Most: true},
}
