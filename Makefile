# `make help` lists the targets. Every one does the set-up that it needs.

SHELL   := /bin/bash
CARGO   ?= cargo
LOCKED  := --locked
TOOLS   := $(CURDIR)/target/tools
BENCH   := $(CURDIR)/target/bench
NATS    := $(TOOLS)/bin/nats-server
NATS_VERSION := v2.15.2
CLIENTS := $(CURDIR)/target/clients
# Seconds for each fuzz target, and how many made-up patterns are compared with Go's answers.
SECONDS_EACH ?= 60
PATTERNS     ?= 20000

# Answers depend on the version of Go (Unicode tables, spelling of classes): the one that made the table. Another one fetches it.
GO = GOTOOLCHAIN=$$(sed -n '1s/.*"go":"\([^"]*\)".*/\1/p' $(CURDIR)/tests/data/re2.json) go

.DEFAULT_GOAL := help
.PHONY: help run test check fmt clippy docs deny oracle gorilla clients bench bench-quick bench-build soak fuzz setup need-components need-go need-nats need-node need-python

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Run the broker with a simulated fleet and say what to try next
	$(CARGO) run $(LOCKED) --release -- serve --demo

test: setup need-nats ## All tests of the workspace, documentation examples included
	$(CARGO) test $(LOCKED) --workspace

check: fmt clippy docs deny ## Everything but the tests: format, lints, documentation, licences

fmt: need-components
	$(CARGO) fmt --all -- --check

clippy: setup need-components
	$(CARGO) clippy $(LOCKED) --workspace --all-targets -- -D warnings

docs: setup
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(LOCKED) --workspace --no-deps --document-private-items

deny: setup ## Licences, banned packages and sources (installs cargo-deny, which takes minutes)
	@test -x $(TOOLS)/bin/cargo-deny || $(CARGO) install --locked --root $(TOOLS) cargo-deny
	$(TOOLS)/bin/cargo-deny --locked check bans licenses sources

oracle: setup need-go ## `Re` against Go's regexp: the table of tests/data anew, and made-up patterns
	mkdir -p target/oracle
	cd tests/go/re2 && $(GO) run . > $(CURDIR)/target/oracle/re2.json
	diff -u tests/data/re2.json target/oracle/re2.json
	cd tests/go/re2 && $(GO) run . -generate $(PATTERNS) > $(CURDIR)/target/oracle/pairs.json
	HYDRANT_RE2_PAIRS=$(CURDIR)/target/oracle/pairs.json $(CARGO) test $(LOCKED) --test filter re2::

gorilla: setup need-go ## Compression with the websocket library of Go, which it fetches
	mkdir -p $(CLIENTS)
	cd tests/clients/go && go build -o $(CLIENTS)/go-client .
	$(CARGO) test $(LOCKED) --test wire -- --ignored go_gorilla

clients: gorilla need-node need-python ## The same with those of Node and Python too
	mkdir -p $(CLIENTS)/node
	cp tests/clients/node/* $(CLIENTS)/node/ && npm install --prefix $(CLIENTS)/node --no-audit --no-fund --loglevel=error
	test -x $(CLIENTS)/python/bin/python || python3 -m venv $(CLIENTS)/python
	$(CLIENTS)/python/bin/pip install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt
	$(CARGO) test $(LOCKED) --test wire -- --ignored node_ws python_websockets

# A part of the benchmarks: its name, its arguments. Text, JSON and a page; a fault (3) or a failure ends it all.
LOADTEST = set -o pipefail; export PATH=$$PATH:$(TOOLS)/bin; measure() { name=$$1; shift; echo "== $$name"; \
	target/release/hydrant-loadtest "$$@" --json $(BENCH)/$$name.json --html $(BENCH)/$$name.html | tee $(BENCH)/$$name.txt; }; \
	serve="--serve target/release/hydrant"

bench: bench-build ## In-process benchmarks, then everything over sockets beside peers and floor; results in target/bench
	set -o pipefail; $(CARGO) bench $(LOCKED) --bench index_match --bench filter_eval --bench deflate --bench fanout_turn --bench intake -- \
	  --warm-up-time 0.5 --measurement-time 1.5 | tee $(BENCH)/criterion.txt
	$(LOADTEST); set -e; measure compare compare $$serve --rounds 5; \
	measure posts burst $$serve --k 16 --single-post; \
	measure posts-selective burst $$serve --k 16 --single-post --selective; \
	measure fleet fleet $$serve --percent 25,50,75 --floor --seconds 10 --rounds 3; \
	measure fleet-200 fleet $$serve --runners 0 --portals 200 --scripts 0 --rate 200 --floor --seconds 10 --rounds 5; \
	measure storm storm $$serve -n 10000 --loss restart; \
	measure storm-cut storm $$serve -n 10000 --rounds 2; \
	measure storm-tls storm $$serve --serve-tls -n 5000; \
	measure idle idle $$serve -n 10000; \
	measure idle-tls idle $$serve --serve-tls -n 10000

bench-quick: bench-build ## The same over sockets, small and short: to see that it works, not to quote
	$(LOADTEST); set -e; measure compare compare $$serve -n 200 --many 1000 --rounds 3 --seconds 0.2 --stall-rounds 1 --megabytes 4 --idle 500 --rest 2; \
	measure posts-selective burst $$serve -n 200 --k 16 --rounds 3 --seconds 0.2 --single-post --selective; \
	measure fleet fleet $$serve --percent 25,50 --floor --seconds 2; \
	measure fleet-200 fleet $$serve --runners 0 --portals 200 --scripts 0 --rate 200 --floor --seconds 2; \
	measure storm storm $$serve -n 1000 --loss restart; \
	measure idle idle $$serve -n 1000 --rest 2

bench-build: setup
	mkdir -p $(BENCH)
	$(CARGO) build $(LOCKED) --release --workspace

soak: setup need-nats ## A million cases for filters, their time bounds, many clients and what a front costs, nodes, 10,000 connections, rights that end
	HYDRANT_SOAK=1000000 $(CARGO) test $(LOCKED) --release --test filter -- engine:: limits:: --nocapture --test-threads 1
	$(CARGO) test $(LOCKED) --release --test front -- events:: --ignored --nocapture --test-threads 1
	$(CARGO) test $(LOCKED) --release --test front -- cost:: --ignored --nocapture --test-threads 1
	$(CARGO) test $(LOCKED) --release --test auth -- --ignored --nocapture --test-threads 1
	$(CARGO) test $(LOCKED) --release --test nats -- --ignored --nocapture --test-threads 1
	HYDRANT_SOAK=1 $(CARGO) test $(LOCKED) --release --test limits -- connections:: --test-threads 1
	HYDRANT_SOAK=1 $(CARGO) test $(LOCKED) --release --test rights -- --test-threads 1

fuzz: setup ## Every fuzz target for SECONDS_EACH seconds (installs cargo-fuzz and the nightly toolchain)
	@rustup toolchain list | grep -q nightly || rustup toolchain install nightly --profile minimal
	@test -x $(TOOLS)/bin/cargo-fuzz || $(CARGO) install --locked --root $(TOOLS) cargo-fuzz
	set -e; export PATH=$(TOOLS)/bin:$$PATH; for target in $$(cargo +nightly fuzz list); do mkdir -p target/fuzz/$$target; \
	  cargo +nightly fuzz run --target-dir target/fuzz/build "$$target" target/fuzz/$$target fuzz/seeds -- \
	    -dict=fuzz/filter.dict -max_len=4096 -timeout=10 -max_total_time=$(SECONDS_EACH); done

# The variable by which cargo starts a benchmark under another program.
RUNNER = CARGO_TARGET_$$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER

.PHONY: bench-peers instructions page peers need-browser need-mosquitto need-valgrind

bench-peers: setup ## Filters beside the crates quamina and a-tree; results in target/bench
	mkdir -p $(BENCH)
	set -o pipefail; cd benches/peers && $(CARGO) run $(LOCKED) --release --target-dir $(CURDIR)/target | tee $(BENCH)/peers.txt

instructions: setup need-valgrind ## Instructions of one match, one delivery and one posted event, counted by valgrind; results in target/bench
	mkdir -p $(BENCH)
	$(CARGO) bench $(LOCKED) --bench instructions --no-run
	set -e -o pipefail; export $(RUNNER)="valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=*counted_*"; \
	for work in match outbox intake; do $(CARGO) bench $(LOCKED) --bench instructions -- $$work 2>&1 | \
	  awk -v work=$$work '$$1 == work":" {print; units = $$2} /Collected/ {count = $$NF} \
	    END {if (!units || !count) exit 1; printf "%s: %.1f instructions each\n", work, count / units}'; \
	done | tee $(BENCH)/instructions.txt

page: setup need-browser ## The load test's pages in a real browser: width, contrast, texts that lie on each other
	$(CARGO) test $(LOCKED) -p hydrant-loadtest --test load -- --ignored page::

peers: setup need-nats need-mosquitto ## The load test's peers, mosquitto too, at small work that is checked
	$(CARGO) test $(LOCKED) -p hydrant-loadtest --test load -- --include-ignored peers::

need-mosquitto:
	@PATH=$$PATH:/usr/sbin command -v mosquitto >/dev/null || $(call apt,mosquitto)
	@PATH=$$PATH:/usr/sbin command -v mosquitto >/dev/null || { echo "mosquitto is missing and could not be installed" >&2; exit 1; }

need-browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || $(call apt,chromium)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || { echo "a browser (chromium) is missing and could not be installed" >&2; exit 1; }

need-valgrind:
	@command -v valgrind >/dev/null || $(call apt,valgrind)
	@command -v valgrind >/dev/null || { echo "valgrind is missing and could not be installed" >&2; exit 1; }

# What building needs besides Rust: a C compiler, for the cryptography (aws-lc) and the allocator. Neither cmake nor clang.
setup:
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || $(call apt,gcc libc6-dev)
	@command -v cc >/dev/null || { echo "a C compiler (cc) is missing and could not be installed" >&2; exit 1; }

need-components:
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy

# The server that nodes are tested with: built where there is a Go that can, otherwise Debian's, which is older and does.
need-nats:
	@mkdir -p $(TOOLS)/bin
	@test -x $(NATS) || ! command -v go >/dev/null \
	  || GOBIN=$(TOOLS)/bin go install github.com/nats-io/nats-server/v2@$(NATS_VERSION) || true
	@test -x $(NATS) || command -v nats-server >/dev/null || $(call apt,nats-server)
	@test -x $(NATS) || { found=$$(PATH=$$PATH:/usr/sbin command -v nats-server) && ln -sf "$$found" $(NATS); } || true
	@$(NATS) --version || { echo "nats-server is missing and could not be installed" >&2; exit 1; }

need-go:
	@command -v go >/dev/null || $(call apt,golang-go)
	@command -v go >/dev/null || { echo "go is missing and could not be installed" >&2; exit 1; }

need-node:
	@command -v npm >/dev/null || $(call apt,nodejs npm)
	@command -v npm >/dev/null || { echo "npm is missing and could not be installed" >&2; exit 1; }

need-python:
	@python3 -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv)
	@python3 -c 'import ensurepip' || { echo "python3 with venv is missing and could not be installed" >&2; exit 1; }

# Installs packages where we may: as root, or by sudo without a password.
apt = { if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1); \
	elif sudo -n true 2>/dev/null; then sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends $(1); \
	fi; true; }
