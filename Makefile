# `make help` lists the targets. Every one does the set-up that it needs. What takes more than a few lines is in `scripts/`.

SHELL   := /bin/bash
CARGO   ?= cargo
LOCKED  := --locked
# Always the whole workspace: cargo chooses the features of dependencies by the packages that are named, and builds them and all
# that needs them again for another choice. The program that tests start, target/debug/hydrant, is built along. Features that are
# off by default are on here; `make features` and `make run` build without them.
ALL     := --workspace --features hydrant/otel
TESTS   := $(CARGO) test $(LOCKED) $(ALL)
TOOLS   := $(CURDIR)/target/tools
SHELLS  := .ci/run $(shell grep -l '^\#!.*bash' scripts/*)
BENCH   := $(CURDIR)/target/bench
CLIENTS := $(CURDIR)/target/clients
# Seconds for each fuzz target, and how many made-up patterns are compared with Go's answers.
SECONDS_EACH ?= 60
PATTERNS     ?= 20000
# Seeds of the simulation that have to find every known bug.
SEEDS        ?= 1000
# Files that `make mutants` changes; a sample of those of all areas if there are none.
FILES        ?=
export CARGO SECONDS_EACH PORT PREFIX DESTDIR EXAMPLES PYTHON2

# Answers depend on the version of Go (Unicode tables, spelling of classes): the one that made the table. Another one fetches it.
GO = GOTOOLCHAIN=$$(sed -n '1s/.*"go":"\([^"]*\)".*/\1/p' $(CURDIR)/tests/data/re2.json) go

.DEFAULT_GOAL := help
.PHONY: help run test install check fmt clippy shellcheck docs features deny figures oracle gorilla soak fuzz
.PHONY: tour tour-clone packages-quick openapi conformance interop outside faults rolling book deb image packages timings recipes advisories locks
.PHONY: console console-load console-cost console-pictures counting-cost
.PHONY: storm nodes soak-nodes mutants places loom bugs standing
.PHONY: bench bench-quick bench-build bench-peers instructions page peers setup watched

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Run the broker with a simulated fleet and say what to try next (PORT=, ARGS= for hydrant serve)
	@scripts/run $(ARGS)

# Tests mostly wait, for sockets and for time, so twice as many run at once as there are cores.
test: export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))
test: setup need-nats need-procps ## All tests of the workspace, documentation examples included
	$(TESTS)

book: need-book ## README and docs as a book with a search, each link followed; at target/book/html
	scripts/book $(TOOLS)/bin/mdbook

deb: setup ## The Debian package, at target/deb: program (fat LTO, takes minutes), unit, manual, completions, bill of materials
	scripts/need deb
	scripts/stage && scripts/deb

image: setup ## The root file system of a container, at target/rootfs; dist/container/Containerfile makes an image by the same scripts
	scripts/stage && scripts/rootfs target/rootfs

packages: deb ## Tests what is made for operators: package and container in roots of their own, Kubernetes example
	scripts/rootfs target/rootfs
	scripts/need chroots python openssl
	scripts/packages

packages-quick: setup need-procps need-python need-openssl ## Container and Kubernetes example with the program of the tests, which takes seconds
	$(TESTS) --test wire --no-run
	scripts/stage target/debug/hydrant && scripts/rootfs target/rootfs
	scripts/packages container kubernetes

install: setup ## The program, man pages, completions and the systemd unit below PREFIX (/usr/local); starts nothing
	$(CARGO) build $(LOCKED) --release --bin hydrant
	scripts/install target/release/hydrant

check: fmt clippy shellcheck docs features deny locks ## Everything but the tests: format, lints, documentation, features, licences

fmt: need-components
	$(CARGO) fmt --all -- --check

clippy: setup need-components ## Lints of everything, fuzz targets included
	$(CARGO) clippy $(LOCKED) $(ALL) --all-targets --features hydrant-fuzz/targets -- -D warnings

shellcheck: need-shellcheck
	shellcheck $(SHELLS)

docs: setup
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(LOCKED) $(ALL) --no-deps --document-private-items

# One test is named so that dependencies have the features that `make clippy` has compiled them with.
features: setup need-components ## That it builds without its optional features
	$(CARGO) clippy $(LOCKED) --workspace --no-default-features --lib --bins --test docs -- -D warnings

deny: setup need-deny ## Licences, banned packages and sources
	$(TOOLS)/bin/cargo-deny --locked check bans licenses sources

locks: setup ## That the lock files of workspaces besides the main one are up to date
	$(CARGO) update $(LOCKED) --workspace --quiet --manifest-path benches/peers/Cargo.toml
	$(CARGO) update $(LOCKED) --workspace --quiet --manifest-path tests/models/Cargo.toml

figures: setup ## How the sources stand: circles of files, lengths of functions, arrows between modules
	scripts/house-figures

advisories: need-deny ## Known vulnerabilities of dependencies, from RustSec's database, which has to be reached
	scripts/advisories $(TOOLS)/bin/cargo-deny

oracle: setup need-go ## `Re` against Go's regexp: the table of tests/data anew, and made-up patterns
	mkdir -p target/oracle
	cd tests/go/re2 && $(GO) run . > $(CURDIR)/target/oracle/re2.json
	diff -u tests/data/re2.json target/oracle/re2.json
	cd tests/go/re2 && $(GO) run . -generate $(PATTERNS) > $(CURDIR)/target/oracle/pairs.json
	HYDRANT_RE2_PAIRS=$(CURDIR)/target/oracle/pairs.json $(TESTS) --test filter re2:: -- --include-ignored

gorilla: setup need-go ## Compression, and a session as drpcli has it, with the websocket library of Go, which it fetches
	mkdir -p $(CLIENTS)
	cd tests/clients/go && go build -o $(CLIENTS)/go-client . && go build -o $(CLIENTS)/go-session ./session
	cd examples/clients/go && go build -o $(CLIENTS)/go-watch .
	$(TESTS) --test wire --test front -- --ignored go_gorilla go_session

outside: setup need-procps need-curl need-wget need-python3 need-browser ## Programs from outside: curl, wget, Python, and a page of a foreign origin in a browser
	$(TESTS) --test wire --test front -- --ignored tools:: browser::

console: setup need-curl need-browser need-node need-python3 need-go ## The console in a real browser, view by view, and the commands of Me
	$(TESTS) --test wire --no-run
	scripts/console target/debug/hydrant

console-load: setup need-browser need-node ## 500 events a second in the tail for 60 s: frames, heap and nodes of the page
	$(CARGO) build $(LOCKED) --release --bin hydrant
	scripts/console target/release/hydrant load

console-cost: setup need-node ## The fleet's p99 with and without twenty consoles beside it
	$(CARGO) build $(LOCKED) --release --workspace
	scripts/console target/release/hydrant consoles target/release/hydrant-loadtest

standing: setup need-nats ## Where hydrant stands beside the floor and nats-server, in one sitting of eight minutes on a quiet machine
	$(CARGO) build $(LOCKED) --release --workspace
	scripts/standing

counting-cost: setup need-valgrind ## What counting hits costs a turn, in instructions and on a quiet machine in time
	scripts/counting-cost

console-pictures: setup need-browser need-node ## The pictures of docs/images anew
	$(TESTS) --test wire --no-run
	scripts/console target/debug/hydrant look docs/images docs

tour: setup need-curl need-python3 ## Every command of README's tour, against a program of their own
	$(TESTS) --test wire --no-run
	scripts/tour target/debug/hydrant

tour-clone: setup need-curl need-python3 need-node need-browser ## The tour from a clone, timed on a quiet machine: `make run`, the first event in the console, all commands
	scripts/tour clone

faults: setup need-nats need-procps need-haproxy need-nginx need-traefik need-faketime ## HAProxy, nginx and Traefik in front, links that fail, SIGKILL, full disks, a clock that is set; docs/reliability.md
	$(TESTS) --test wire -- --ignored balancers::
	$(TESTS) --test nats -- --ignored --nocapture cluster:: crashes:: kills:: links::
	$(TESTS) --test limits -- --ignored --nocapture clock:: exhausted:: storms:: --skip mounts::

timings: setup ## What building costs, on a quiet machine: clean `make run` to the first event, after a change, sizes (PARTS='run test ci'); in target/bench
	scripts/timings $(PARTS)

recipes: setup need-curl need-python3 need-alertmanager ## The files of examples/pipelines, as far as their programs can be had
	$(TESTS) --test wire --no-run
	python3 tests/recipes/check.py target/debug/hydrant

rolling: setup need-nats need-procps need-haproxy ## A rolling restart of two nodes behind HAProxy with 200 posters and 500 watchers (ROLLING_PAUSE_MS=)
	$(TESTS) --test nats -- --ignored --nocapture rolling::

storm: setup need-nats need-procps need-haproxy ## How long clients take to catch up when three nodes behind HAProxy are restarted (STORM_CLIENTS=, STORM_EVENTS=)
	$(CARGO) test $(LOCKED) --release --test nats -- --ignored --nocapture storm::

nodes: setup need-nats need-procps ## What an event costs each of up to six nodes (NODES_EVENTS=, NODES_SECONDS=)
	$(CARGO) test $(LOCKED) --release --test nats -- --ignored --nocapture cost::

interop: gorilla need-node need-python need-procps need-browser need-firefox ## A whole session with each websocket library that people use, and with browsers (KEEP=1: into docs/interop.md)
	cd tests/clients/go && go build -o $(CLIENTS)/ ./talk-gorilla ./talk-gobwas
	mkdir -p $(CLIENTS)/node
	cp tests/clients/node/* $(CLIENTS)/node/ && npm install --prefix $(CLIENTS)/node --no-audit --no-fund --loglevel=error
	test -x $(CLIENTS)/python/bin/python || python3 -m venv $(CLIENTS)/python
	$(CLIENTS)/python/bin/pip install --quiet --disable-pip-version-check -r tests/clients/python/requirements.txt
	$(TESTS) --test wire -- --ignored node_ws python_websockets interop::
	@if [ -n "$(KEEP)" ]; then scripts/keep-table docs/interop.md $(CLIENTS)/interop.md; else cat $(CLIENTS)/interop.md; fi

bench: bench-build ## In-process benchmarks, then everything over sockets beside peers and floor; results in target/bench
	scripts/bench

bench-quick: bench-build ## The same over sockets, small and short: to see that it works, not to quote
	scripts/bench quick

bench-build: setup
	$(CARGO) build $(LOCKED) --release --workspace

bench-peers: setup ## Filters beside the crates quamina and a-tree; results in target/bench
	mkdir -p $(BENCH)
	set -o pipefail; cd benches/peers && $(CARGO) run $(LOCKED) --release --target-dir $(CURDIR)/target | tee $(BENCH)/peers.txt

instructions: setup need-valgrind ## Instructions of a match, filter, delivery and posted event, by valgrind; results in target/bench
	scripts/instructions

soak: setup need-nats need-procps need-haproxy ## A million cases for filters, their time bounds, many clients and what a front costs, nodes, resuming, 10,000 connections, rights that end
	scripts/soak

loom: setup ## Every hand-over between threads, modelled and tried in all interleavings; broken twins have to be found
	$(CARGO) run $(LOCKED) --manifest-path tests/models/Cargo.toml --target-dir target/models

bugs: setup need-python3 ## Puts known bugs into a copy of the sources: which seed of the simulation finds each (SEEDS=1000)
	scripts/simulation-bugs --seeds=$(SEEDS)

# Only the program is optimised: what the clients of the test do costs little.
soak-nodes: setup need-nats need-procps ## Three nodes with churn and changes: memory, latency, losses (SOAK_MINUTES=3, SOAK_EVENTS=, SOAK_CHURN=, SOAK_PERIOD=, SOAK_PROGRAM=)
	[ -n "$(SOAK_PROGRAM)" ] || $(CARGO) build $(LOCKED) --release --bin hydrant
	HYDRANT_UNDER_TEST=$(or $(SOAK_PROGRAM),$(CURDIR)/target/release/hydrant) $(TESTS) --test nats -- --ignored --nocapture soak::

fuzz: setup need-fuzz ## Every fuzz target for SECONDS_EACH seconds, with a table of inputs (installs the nightly toolchain)
	scripts/fuzz

mutants: setup need-python3 ## Changes to index, filter, auth, broker, fanout, cluster, proxy that tests have to notice (SAMPLE=210, SEED=1; FILES=, MOST=30 a file)
	scripts/mutants --known
	scripts/mutants $(FILES)

places: need-python3 ## Check that the sources still have the places that `make bugs` and `make mutants` change
	scripts/simulation-bugs --places
	scripts/mutants --known --places

watched: setup need-nats need-python3 need-prometheus ## Alerting rules, dashboard and documented expressions in a real Prometheus that scrapes a live hydrant
	$(TESTS) --test wire --no-run
	scripts/watched target/debug/hydrant

openapi: setup need-python need-node need-curl ## The server's descriptions of itself by their schemas, and made-up requests to a live server (EXAMPLES=20)
	$(TESTS) --test wire --no-run
	scripts/openapi target/debug/hydrant

conformance: setup need-autobahn ## RFC 6455 and 7692 by the Autobahn Testsuite, server and client (CASES='1.*,7.*': only these; KEEP=1: into docs/conformance.md)
	HYDRANT_AUTOBAHN=$(TOOLS)/autobahn/bin/wstest HYDRANT_AUTOBAHN_CASES='$(CASES)' $(TESTS) --test wire -- --ignored --nocapture --test-threads 1 conformance::
	@if [ -n "$(KEEP)" ]; then scripts/keep-table docs/conformance.md target/tmp/autobahn-server.md target/tmp/autobahn-client.md; fi

page: setup need-browser ## The load test's pages in a real browser: width, contrast, texts that lie on each other
	$(TESTS) --test load -- --ignored page::

peers: setup need-nats need-mosquitto ## The load test's peers, mosquitto too, at small work that is checked
	$(TESTS) --test load -- --include-ignored peers::

# What building needs besides Rust.
setup: need-cc

# Programs from outside, installed where they are missing and that is allowed.
need-%:
	@scripts/need $*
