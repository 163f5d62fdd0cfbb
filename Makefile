# Each target first installs and builds what it needs. Downloads and builds stay in .cache and target.
.PHONY: help demo test test-docker test-matrix check bench fuzz cost sqlx advisories kafka
.DEFAULT_GOAL := help

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile

demo: ## run the service against private servers, and kill it in the middle
	@scripts/packages.sh build database
	@cargo build --quiet --locked
	@cargo run --quiet --locked --package testbed --bin demo

test: ## run the whole gate, as continuous integration does
	@scripts/test.sh

test-docker: ## build the image, and test it and the Compose files; needs Docker with Compose
	@scripts/packages.sh build docker
	cargo test --locked --test docker

test-matrix: ## run the integration tests with each version of Kafka and PostgreSQL; TESTS=main_job:: for a part
	@scripts/packages.sh build database kafka browser cost
	@scripts/kafka.sh
	@scripts/matrix.sh $(TESTS)

check: ## run the fast gate: format, lints, documentation, tests that need no server
	@scripts/packages.sh build
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
	cargo test --quiet --locked --workspace --exclude cost --lib
	cargo test --quiet --locked --package fenced-sink --test layers

bench: kafka ## measure rates beside psql's \copy, latencies and memory; write docs/performance.md and .svg
	cargo bench --locked --bench end_to_end -- --write-docs

fuzz: ## run each fuzz target for five minutes
	@scripts/packages.sh build lint
	@scripts/tools.sh
	@scripts/fuzz.sh 300

cost: ## update the stored instruction counts after an intended change of parse, batch or encode
	@scripts/packages.sh build cost
	@scripts/cost.sh write

sqlx: ## update .sqlx after a change to SQL or a migration
	@scripts/packages.sh build database
	@scripts/sqlx.sh write

advisories: ## check the dependencies for known vulnerabilities; downloads the advisory database
	@scripts/packages.sh build lint
	@scripts/tools.sh
	PATH="$$PWD/.cache/cargo-deny/bin:$$PATH" cargo deny --log-level error check advisories

kafka: # the broker of the tests
	@scripts/packages.sh build database kafka
	@scripts/kafka.sh
