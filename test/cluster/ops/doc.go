// Package ops tests what is in docs/ops with Prometheus itself: that its rules are
// valid, and that each alert fires when it should and not otherwise.
package ops
