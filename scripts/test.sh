#!/usr/bin/env bash
# The whole gate. The integration tests run last, so that their result is the last output. The times of all other steps are
# printed before them.
set -euo pipefail
cd "$(dirname "$0")/.."
# A clean checkout reuses nothing.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0
# The integration tests wait for most of their time: with one test for each of two cores, two thirds of the CPU are idle.
RUST_TEST_THREADS=$(($(nproc) > 3 ? $(nproc) : 3))
export RUST_TEST_THREADS

times=
step() {
  local started=$SECONDS
  echo "== $1"
  "${@:2}"
  times+=$(printf '%5d s  %s' $((SECONDS - started)) "$1")$'\n'
}

step "install: packages" scripts/packages.sh build database kafka browser monitoring lint cost
step "install: tools" scripts/tools.sh
step "install: Apache Kafka" scripts/kafka.sh
step "install: libraries of the Python service" scripts/old_service.sh
step "scripts, Dockerfile" scripts/lint.sh
step "format" cargo fmt --all --check
step "lints" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
step "dependencies" env PATH="$PWD/.cache/cargo-deny/bin:$PATH" cargo deny --log-level error check bans licenses sources
step "descriptions of SQL" scripts/sqlx.sh check
step "fuzzing" scripts/fuzz.sh 20
step "alerts, Kubernetes manifests" scripts/deploy.sh
step "instructions of parse, batch, encode" scripts/cost.sh check
step "the program" cargo build --quiet --locked
step "tests: engine, testbed, demo" cargo test --quiet --locked --workspace --exclude booking-history --exclude cost
step "tests: program, without servers" cargo test --quiet --locked --lib --bins
step "tests: examples in the documentation" cargo test --quiet --locked --doc
suites=(main_job:: letters:: redrive:: verify::)
# PostgreSQL has no unique key without the partition key, and no trigger that moves a row to another partition.
impossible=(a_unique_key_on_another_column a_trigger_that_changes_a_key)
scripts/filters.sh "${suites[@]}" "${impossible[@]}"
step "tests: integration, with a partitioned table" env TEST_TABLE=partitioned cargo test --quiet --locked --test it -- \
  "${suites[@]}" "${impossible[@]/#/--skip=}"
echo "== times"
printf '%s' "$times"
echo "== tests: integration (the last line has the time)"
exec cargo test --locked --test it
