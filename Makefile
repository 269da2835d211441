# `make help` lists the targets. Go 1.26 or later builds; tests also need Node 20 or later.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CONFORMANCE ?= test/conformance
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2
VULNCHECK   ?= golang.org/x/vuln/cmd/govulncheck@v1.9.0
BENCHSTAT   ?= golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
GOLANGCI    ?= github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME    ?= 20s
COUNT       ?= 20
SEEDS       ?= 2000
SEED        ?= 1000
DURATION    ?= 1h
PEERS       ?= etcd,centrifuge,lockstep
SCENARIO    ?= writes,reads,fanout,idle,watch,failover
LIMIT       ?= 10m
BENCH       ?=

# With this, all that is built has the same packages in Go's cache, and a copy of the sources elsewhere, too.
export GOFLAGS := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)

# Without the checks that go test does by itself, for each kind of build again: make verify does all of them.
TEST := go test -vet=off

# The tests of whole clusters have processes of their own and want the machine to themselves.
CLUSTERS := ./test/cluster ./test/rolling ./test/sim

# These only start the program and look at what it does: the race detector in it would double their time.
COMMANDS := ./test/cli ./test/durable ./test/packages

PACKAGES = $$(go list ./... | grep -vE '/test/(cluster|rolling|sim|cli|durable|packages)$$')

.PHONY: help build compile run test test-unit test-race test-sim test-chaos test-attacks test-overload test-mutants test-conformance test-browser fuzz bench bench-peers bench-compare verify lint fmt soak soak-sim soak-age soak-steady

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

build: ## build bin/lockstep
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/lockstep ./cmd/lockstep

run: build ## start three nodes on this machine, on ports 8080 to 8082
	exec bin/lockstep dev

# The tests mostly wait; what only needs the processor takes the time between.
test: build ## run everything that CI runs
	scripts/meanwhile.sh "$(MAKE) compile verify" $(MAKE) test-conformance test-browser test-race
	@echo "make test: all passed"

compile: ## compile what test-race runs, and the tools of a release
	go list -race -test -deps -export ./... >/dev/null
	dir=$$(mktemp -d) && go run ./scripts/release -version v0.0.0 -targets $$(go env GOOS)/$$(go env GOARCH) -out $$dir/dist; rm -r $$dir
	go list -test -deps -export $(COMMANDS) >/dev/null

verify: ## check format, vet, staticcheck, go.mod and known vulnerabilities
	@unformatted=$$(gofmt -l cmd cluster fsm objects scripts server test); [ -z "$$unformatted" ] || { echo "run make fmt; it would change:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff
	for module in test/cluster/acme test/cluster/deploy test/bench/link; do (cd $$module && go vet ./... && go run $(STATICCHECK) ./... && go mod tidy -diff) || exit 1; done
	cd test/bench && go vet ./... && go mod tidy -diff # staticcheck would go through all of the peers
	cd test/cluster/ops && go vet . && go run $(STATICCHECK) .
	scripts/replace.sh
	scripts/vulnerabilities.sh $(VULNCHECK)

lint: ## run the linters of .golangci.yml; building them takes minutes the first time
	go run $(GOLANGCI) run ./...

test-unit: ## run the tests that start no cluster, without the race detector
	go test $$(go list ./... | grep -v '/test/')
	cd test/bench && go test ./...

test-race: ## run all Go tests, with the race detector where it can find something
	$(TEST) -race -timeout 20m $(PACKAGES)
	$(TEST) -p 3 -timeout 10m $(COMMANDS) # they mostly wait for their processes
	cd test/bench && $(TEST) ./...
	$(TEST) -race -timeout 10m -p 1 $(CLUSTERS)
	cd test/cluster/acme && $(TEST) -timeout 10m .
	cd test/cluster/deploy && $(TEST) .
	cd test/cluster/ops && $(TEST) -count=1 . # its files are outside the module, so that a cached result says nothing

test-sim: ## run whole clusters in virtual time
	go test -race ./test/sim

test-chaos: ## kill, pause and restart the nodes of real clusters
	go test -race -count=1 -timeout 10m ./test/cluster

test-attacks: ## attack real clusters and measure what an innocent client feels
	go test -tags attack -count=1 -timeout 20m -v ./test/attack

test-mutants: ## plant faults in the product, one at a time, and see that a test finds each
	go run ./test/mutants

test-overload: ## give a cluster five times what it can do, and 10,000 clients that lose their node
	go test -tags load -count=1 -timeout 10m -v ./test/overload

test-conformance: build ## run the official clients' suites against a fresh cluster; CONFORMANCE=folder
	scripts/chromium.sh
	go run ./test/conformance -binary bin/lockstep -suites $(CONFORMANCE)

test-browser: build ## the official client in headless Chromium against a fresh cluster, and the examples
	test/browser/run.sh

fuzz: ## run each fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem $$(go list ./... | grep -v '/test/')
	cd test/bench/link && go test -run '^$$' -bench .

bench-compare: ## compare hot paths with the commit where this branch left main, within a minute; for information
	scripts/benchstat.sh $(BENCHSTAT)

bench-peers: build ## measure beside etcd and centrifuge for up to LIMIT, into test/bench/out; PEERS=, SCENARIO=, BENCH=flags
	cd test/bench && go build -o ../../bin/bench/ . ./cmd/...
	bin/bench/bench run --lockstep bin/lockstep --out test/bench/out --peers $(PEERS) --scenario $(SCENARIO) --limit $(LIMIT) $(BENCH)

.PHONY: release
release: ## build archives, packages, lists of parts and checksums for all systems into dist/
	go run ./scripts/release -version $(VERSION) -out dist

fmt: ## format all Go files
	gofmt -w cmd cluster fsm objects scripts server test

soak: ## repeat the cluster tests COUNT times
	go test -race -count=$(COUNT) -timeout 0 -p 1 $(CLUSTERS)

soak-sim: ## simulate SEEDS clusters, from the seed SEED on, and say how many a minute
	bash test/sim/soak.sh $(SEED) $(SEEDS)

soak-age: ## run a cluster for DURATION and see that log, disk, memory and goroutines stay flat
	go test -tags age -count=1 -timeout 0 -v ./test/age -run TestNothingGrowsWithAge -for $(DURATION)

soak-steady: DURATION = 10m
soak-steady: ## give a cluster 70 % of what it can do for DURATION (10m), print its delays, and see that memory and goroutines stay flat
	go test -tags age -count=1 -timeout 0 -v ./test/age -run TestSteadyNearCapacity -for $(DURATION)
