// A module of its own, so that yamux never comes into the product's go.mod. Its
// path begins with lockstep/cluster, since it measures an internal package of that.
module lockstep/cluster/linkbench

go 1.26.0

require (
	github.com/hashicorp/yamux v0.1.2
	lockstep v0.0.0
)

require (
	github.com/fatih/color v1.13.0 // indirect
	github.com/hashicorp/go-hclog v1.6.3 // indirect
	github.com/hashicorp/go-immutable-radix v1.3.1 // indirect
	github.com/hashicorp/go-metrics v0.7.0 // indirect
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	github.com/hashicorp/golang-lru v1.0.2 // indirect
	github.com/hashicorp/raft v1.8.0 // indirect
	github.com/mattn/go-colorable v0.1.12 // indirect
	github.com/mattn/go-isatty v0.0.22 // indirect
	golang.org/x/sys v0.50.0 // indirect
)

replace lockstep => ../../..
