# Everything that is built and checked here. Tools and packages of other languages are installed by scripts/setup into
# .tools, .venv and node_modules below conformance, pinned, and only where they are missing.

export CGO_ENABLED ?= 0
GO       ?= go
export GO
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# How long each fuzz target runs: inputs ("4000x", enough to see with every change that it finds nothing at once) or time ("10m", to search).
FUZZTIME ?= 4000x

.PHONY: build demo run setup test test-go test-conformance generate-check lint fuzz bench soak clean

build: ## bin/keywright, static
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/keywright ./cmd/keywright

demo: ## starts Keywright and shows a real encrypt and decrypt; stays until Ctrl-C
	scripts/demo

run: build ## a server for development on its embedded default
	./bin/keywright dev

test: setup lint generate-check test-go test-conformance fuzz ## all that CI asks

setup: ## installs what the tests need, where it is missing
	scripts/setup

# The store's tests run on PostgreSQL, too: on the one that KEYWRIGHT_POSTGRES names, or on one that ends with them.
test-go: build
	scripts/postgres with scripts/test

test-conformance: build
	scripts/conformance

generate-check: ## committed generated code is what the generator makes
	$(GO) generate ./internal/wire/...
	git diff --exit-code -- internal/wire

lint:
	scripts/lint

fuzz: ## every fuzz target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

bench: build ## requests per second beside an empty server, CPU of three servers beside one, and what policies, grants and counting uses cost; writes bench/RESULTS.md and bench/POLICIES.txt
	scripts/postgres with $(GO) run ./bench
	$(GO) test -run '^$$' -bench '^Benchmark(Policies|ManyGrants|CountUses)$$' -benchtime 3s ./internal/pipeline ./internal/kms >bench/POLICIES.txt
	cat bench/POLICIES.txt

soak: build ## what takes too long for every change: a hundred kills, every byte flipped, a million keys
	scripts/soak

clean:
	rm -rf bin .tools .venv conformance/policydiff/node_modules conformance/schemas/node_modules conformance/clients/js/node_modules conformance/clients/java/target
