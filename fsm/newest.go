//go:build !nextlevel

package fsm

// Newest is the highest format level that this release knows.
const Newest = Level1

// next are the operations of a release to come, in a build with the tag
// nextlevel: tests run both as one cluster.
var next []operation
