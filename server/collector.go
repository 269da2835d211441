package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster"
	"lockstep/fsm"
)

var (
	leaderDesc  = prometheus.NewDesc("lockstep_raft_leader", "1 if this node leads and its term has started.", nil, nil)
	appliedDesc = prometheus.NewDesc("lockstep_raft_applied_index", "Log index up to which this node's store has applied.", nil, nil)
	termDesc    = prometheus.NewDesc("lockstep_raft_term", "Term of the last applied log entry.", nil, nil)
	levelDesc   = prometheus.NewDesc("lockstep_format_level", "The cluster's format level, as this node's state has it.", nil, nil)
	timeDesc    = prometheus.NewDesc("lockstep_store_time_seconds", "The store's clock: the leader's stamp on the last batch, as Unix time.", nil, nil)
	ageDesc     = prometheus.NewDesc("lockstep_raft_age_seconds", "Time since this node's store last held everything that the cluster had committed; above a few seconds it does not keep up.", nil, nil)
	membersDesc = prometheus.NewDesc("lockstep_members", "Members of the cluster by role, as this node sees them.", []string{"role"}, nil)
	votersDesc  = prometheus.NewDesc("lockstep_voters", "Members that have a vote, whether they are reached or not.", nil, nil)
	dedupDesc   = prometheus.NewDesc("lockstep_dedup_commands", "Commands whose id is remembered, by window.", []string{"window"}, nil)
	dedupBytes  = prometheus.NewDesc("lockstep_dedup_bytes", "Memory that remembered commands take, by window.", []string{"window"}, nil)
	dedupAge    = prometheus.NewDesc("lockstep_dedup_age_seconds", "Age of the oldest remembered command, by window.", []string{"window"}, nil)
	answerAge   = prometheus.NewDesc("lockstep_dedup_answer_age_seconds", "Age of the oldest remembered command whose answer is kept, by window.", []string{"window"}, nil)
	feedDesc    = prometheus.NewDesc("lockstep_feed_bytes", "Memory that the events kept for slow followers of this node's store take.", nil, nil)
	stateDesc   = prometheus.NewDesc("lockstep_state_bytes", "Memory that the state takes, about, as every node counts it.", nil, nil)
	diskDesc    = prometheus.NewDesc("lockstep_disk_free_bytes", "Room on the disk of the data directory; below --disk-reserve, and where this node leads or on a majority, all but removals is refused.", nil, nil)
	stateMax    = prometheus.NewDesc("lockstep_state_bytes_limit", "Above this many bytes of state, this node as leader refuses what grows it.", nil, nil)
	tombDesc    = prometheus.NewDesc("lockstep_tombstone_bytes", "Memory that removed items take, which are kept for clients that were away.", nil, nil)
	outboxDesc  = prometheus.NewDesc("lockstep_outbox_bytes", "Memory that waiting webhooks take.", nil, nil)
	droppedDesc = prometheus.NewDesc("lockstep_webhooks_dropped_total", "Webhooks given up for want of room in the outbox, ever.", nil, nil)
	clockDesc   = prometheus.NewDesc("lockstep_clock_offset_seconds", "How far this machine's clock is ahead of the cluster's time.", nil, nil)
	clockFar    = prometheus.NewDesc("lockstep_clock_far_off", "1 if a majority of the nodes has it that this machine's clock is wrong: such a node does not lead.", nil, nil)
	differsDesc = prometheus.NewDesc("lockstep_state_differs", "1 if this node's state may not be relied upon, as it differs from that of other nodes: it serves nothing then.", nil, nil)
	sumDesc     = prometheus.NewDesc("lockstep_state_sum_wrong_total", "How often the sum that this node keeps of its state was found wrong, and made anew by all nodes alike: a fault of the release, which the state does not suffer from.", nil, nil)
	digestDesc  = prometheus.NewDesc("lockstep_state_digest_index", "Log index of the newest digest of this node's state, by which nodes compare.", nil, nil)
	waitingDesc = prometheus.NewDesc("lockstep_queue_length", "What waits on this node, by queue: commands for a log entry (on the leader), commands to be sent to the leader, reads for a round.", []string{"queue"}, nil)
	hooksDesc   = prometheus.NewDesc("lockstep_outbox_deliveries", "Webhooks that wait to be sent, in the whole cluster.", nil, nil)
	hooksAge    = prometheus.NewDesc("lockstep_outbox_age_seconds", "Age of the oldest webhook that waits, 0 if none does.", nil, nil)
	snapDesc    = prometheus.NewDesc("lockstep_snapshot_bytes", "Size of this node's newest snapshot on disk, 0 if there is none.", nil, nil)
	logDesc     = prometheus.NewDesc("lockstep_log_bytes", "Size of the file of this node's log, which does not shrink while the node runs.", nil, nil)
	entriesDesc = prometheus.NewDesc("lockstep_log_entries", "Entries in this node's log.", nil, nil)
	storedDesc  = prometheus.NewDesc("lockstep_stored", "What this node's store holds.", []string{"kind"}, nil)
)

// nodeCollector reads the node when it is asked.
type nodeCollector struct {
	node  *cluster.Node
	space space
	room  *diskRoom
}

// Describe implements prometheus.Collector.
func (nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{leaderDesc, appliedDesc, termDesc, levelDesc, timeDesc, ageDesc, membersDesc, votersDesc, storedDesc, dedupDesc, dedupBytes, dedupAge, answerAge, feedDesc, stateDesc, stateMax, diskDesc, tombDesc, outboxDesc, droppedDesc, clockDesc, clockFar, differsDesc, sumDesc, digestDesc, waitingDesc, hooksDesc, hooksAge, snapDesc, logDesc, entriesDesc} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	leads := 0.0
	if c.node.IsLeader() {
		leads = 1
	}
	view := c.node.FSM().View()
	gauge(leaderDesc, leads)
	gauge(appliedDesc, float64(view.Index()))
	gauge(termDesc, float64(view.Term()))
	gauge(levelDesc, float64(view.Level()))
	gauge(timeDesc, float64(view.Time())/1000)
	gauge(ageDesc, c.node.Age().Seconds())
	roles := map[cluster.Role]float64{cluster.RoleLeader: 0, cluster.RoleFollower: 0, cluster.RoleNonvoter: 0, cluster.RoleUnreachable: 0}
	voters := 0.0
	for _, m := range c.node.Members() {
		roles[m.Role]++
		if m.Voter {
			voters++
		}
	}
	gauge(votersDesc, voters)
	for role, n := range roles {
		gauge(membersDesc, n, string(role))
	}
	if free, err := c.room.free(); err == nil {
		gauge(diskDesc, float64(free))
	}
	gauge(stateDesc, float64(view.Bytes()))
	ahead, farOff := c.node.ClockOffset()
	gauge(clockDesc, ahead.Seconds())
	far := 0.0
	if farOff {
		far = 1
	}
	gauge(clockFar, far)
	differs := 0.0
	if _, fault := c.node.Fault(); fault != nil {
		differs = 1
	}
	gauge(differsDesc, differs)
	out <- prometheus.MustNewConstMetric(sumDesc, prometheus.CounterValue, float64(view.Recounts().Wrong))
	gauge(digestDesc, float64(view.Digest().Index))
	gauge(tombDesc, float64(view.TombstoneBytes()))
	gauge(outboxDesc, float64(view.OutboxBytes()))
	out <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(view.DroppedDeliveries()))
	gauge(hooksDesc, float64(view.WaitingDeliveries()))
	gauge(hooksAge, oldestDelivery(view, time.Now().Add(-ahead)).Seconds())
	depths := c.node.Depths()
	gauge(waitingDesc, float64(depths.Commands), "commands")
	gauge(waitingDesc, float64(depths.Forwarded), "forwarded")
	gauge(waitingDesc, float64(depths.Reads), "reads")
	gauge(snapDesc, float64(depths.SnapshotBytes))
	gauge(logDesc, float64(depths.LogBytes))
	gauge(entriesDesc, float64(depths.LogEntries))
	if c.space.state > 0 {
		gauge(stateMax, float64(c.space.state))
	}
	gauge(feedDesc, float64(c.node.FSM().Feed().Bytes()))
	age := func(since int64) float64 {
		if since == 0 {
			return 0
		}
		return float64(view.Time()-since) / 1000
	}
	for _, w := range c.node.FSM().Windows() {
		gauge(dedupDesc, float64(w.Commands), w.Name)
		gauge(dedupBytes, float64(w.Bytes), w.Name)
		gauge(dedupAge, age(w.Oldest), w.Name)
		gauge(answerAge, age(w.OldestAnswered), w.Name)
	}
	services, objs, items := view.Count()
	gauge(storedDesc, float64(services), "service")
	gauge(storedDesc, float64(objs), "object")
	gauge(storedDesc, float64(items), "item")
}

// oldestDelivery returns the age of the webhook that has waited longest.
func oldestDelivery(view *fsm.View, now time.Time) (age time.Duration) {
	view.Deliveries(0, func(d *fsm.Delivery) bool {
		age = max(0, now.Sub(time.UnixMilli(d.Created)))
		return false // the others are younger
	})
	return age
}
