# Lockstep. `make help` lists the targets.
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CONFORMANCE ?= test/conformance
FUZZTIME    ?= 20s

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | expand -t 20

.PHONY: build
build: ## build bin/lockstep
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lockstep ./cmd/lockstep

.PHONY: run
run: build ## start a three-node cluster on this machine
	bin/lockstep dev

.PHONY: test
test: lint test-race test-conformance ## everything: lint, all Go tests with the race detector, the official clients

.PHONY: test-race
test-race: build ## all Go tests with the race detector
	$(GO) test -race -timeout 10m ./...

.PHONY: test-conformance
test-conformance: build ## the official clients against a fresh three-node cluster
	scripts/conformance.sh $(CONFORMANCE)

.PHONY: lint
lint: ## gofmt and go vet
	@unformatted=$$(gofmt -l cluster cmd fsm objects server test); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

.PHONY: fmt
fmt: ## format the code
	gofmt -w cluster cmd fsm objects server test

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

.PHONY: bench
bench: ## every Go benchmark
	$(GO) test -run '^$$' -bench . -benchtime 1000x ./...

.PHONY: clean
clean: ## remove what was built, and the development cluster's data
	rm -rf bin data
