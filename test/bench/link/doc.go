// Package linkbench measures the internal port (cluster/internal/link) beside
// github.com/hashicorp/yamux, with which Nomad does what the port does: many
// requests at a time over one connection between two nodes.
//
//	go test -bench .        # in this folder; make bench does, too
//
// Both sides are in one process, speak TLS 1.3 with certificates of both over the
// loopback, and echo. With yamux a request is a stream: opened for it ("stream each"),
// or one of as many as there are requests at a time, which are kept ("streams
// kept", as Nomad's pool keeps them).
package linkbench
