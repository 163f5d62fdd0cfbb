# Each target does all that it needs first. What is fetched or built stays in .cache and target.
.PHONY: help demo test check bench fuzz sqlx advisories kafka
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/  make \1\t\2/p' Makefile

demo: ## the main job with nothing prepared: bookings exactly once, over a crash
	@scripts/packages.sh build database
	@cargo build --quiet --locked
	@cargo run --quiet --locked --package testbed --bin demo

test: ## the whole gate, as continuous integration runs it
	@scripts/test.sh

check: ## the fast gate: format, lints, documentation, tests that need no server
	@scripts/packages.sh build
	cargo fmt --all --check
	cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
	cargo test --quiet --locked --workspace --lib
	cargo test --quiet --locked --package fenced-sink --test rooms

bench: kafka ## records per second from Kafka to PostgreSQL, beside psql's \copy
	cargo bench --locked --bench end_to_end

fuzz: ## five minutes of fuzzing for each target
	@scripts/packages.sh build lint
	@scripts/tools.sh
	@scripts/fuzz.sh 300

sqlx: ## renews .sqlx, after a change to SQL or a migration
	@scripts/packages.sh build database
	@scripts/sqlx.sh write

advisories: ## known weaknesses of what we depend on; fetches the database of advisories
	@scripts/packages.sh build lint
	@scripts/tools.sh
	PATH="$$PWD/.cache/tools/bin:$$PATH" cargo deny --log-level error check advisories

kafka: # the broker of the tests
	@scripts/packages.sh build database kafka
	@scripts/kafka.sh
