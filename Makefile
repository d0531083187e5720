# Two commands matter: `make demo ONCE=1` and `make test`. Each does its own set-up; the rest are shortcuts.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-cluster services test test-embedded acceptance lint fmt crash-test absence-test simulation fuzz bench bench-cluster bench-collectors clean

CARGO := . scripts/env.sh && cargo

# Variables given on the command line reach scripts and recipes through the environment.
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile
	@echo "  Variables: ONCE=1 SEED= USERS= EVENTS= PORT= DATA_DIR= (demo), N= (crash-test), SECONDS= (absence-test, fuzz), SEEDS= (simulation), BENCH= EVENTS= (bench-cluster), CARGO_TARGET_DIR="

setup: ## install what is missing: C compiler, Rust toolchain, crates
	@scripts/setup.sh

build: setup ## build the optimised binary
	$(CARGO) build --locked --release -p millrace

demo: ## build, start, simulate, show a feed; ONCE=1 ends there, else Ctrl-C does
	@scripts/demo.sh

demo-cluster: ## the same on Kafka, Redis, ClickHouse, Postgres and S3, which it installs and starts
	@CLUSTER=1 scripts/demo.sh

services: setup ## start Kafka, Redis, ClickHouse, Postgres and S3 until Ctrl-C, and say what to set for `millrace up`
	@scripts/engines.sh
	@. scripts/env.sh && cargo run --locked --quiet -p millrace-engines --example services

test: ## formatting, lints, all tests, the layer table, documentation, acceptance
	@scripts/test.sh

test-embedded: setup ## only the tests, without any engine
	@. scripts/env.sh && MILLRACE_TEST_ENGINES=0 cargo test --locked --workspace

acceptance: build ## real clients, and real data where MILLRACE_REAL_DATA says: tests/README.md
	@. scripts/env.sh && tests/acceptance.sh "$$CARGO_TARGET_DIR/release/millrace"
	@if [ -n "$${MILLRACE_REAL_DATA:-}" ] && scripts/engines.sh; then tests/engines.sh; else echo "SKIPPED: the same on engines"; fi

lint: ## clippy and formatting
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt: ## format everything
	$(CARGO) fmt --all

crash-test: ## kill -9 at random during an import, and an end at each named point, N times each (default 140)
	@. scripts/env.sh && MILLRACE_CRASH_KILLS="$${N:-140}" MILLRACE_CRASH_TIMES="$${N:-140}" \
		cargo test --locked --workspace --test it -- --nocapture --test-threads 1 crash:: failpoints::

absence-test: ## each engine away for SECONDS (default 60; ClickHouse twice that), one after the other, while events come in
	@. scripts/env.sh && MILLRACE_ABSENCE_SECONDS="$(or $(SECONDS),60)" \
		cargo test --locked --workspace --test it -- --nocapture absence::

simulation: ## the deterministic simulation over SEEDS seeds (default 20000)
	@. scripts/env.sh && MILLRACE_SIMULATION_SEEDS="$${SEEDS:-20000}" \
		cargo test --locked --release -p millrace-pipelines --test simulation every_seed -- --nocapture

fuzz: setup ## let libFuzzer look for inputs that break a decoder, SECONDS each (default 600)
	@FUZZ_SECONDS="$(or $(SECONDS),600)" scripts/fuzz.sh

bench: build ## the whole-process figures of BENCHMARKS.md; those of one crate: cargo bench -p CRATE
	@. scripts/env.sh && "$$CARGO_TARGET_DIR/release/millrace" bench ingest jobs start visible feed

bench-cluster: build ## the same on Kafka, Redis, ClickHouse, Postgres and S3, which it installs and starts
	@scripts/bench-cluster.sh

bench-collectors: build ## our collector and another one on Kafka, with the same bodies
	@scripts/bench-collectors.sh

clean: ## remove what was built
	$(CARGO) clean
