#!/usr/bin/env bash
# The whole gate. The tests are last, so that it ends with their own closing lines.
set -euo pipefail
cd "$(dirname "$0")/.."

step() {
  local started=$SECONDS
  echo "== $1"
  shift
  "$@"
  echo "   $((SECONDS - started)) s"
}

step "what is missing: packages" scripts/packages.sh build database kafka lint
step "what is missing: tools" scripts/tools.sh
step "what is missing: Apache Kafka" scripts/kafka.sh
step "scripts" scripts/lint.sh
step "format" cargo fmt --all --check
step "lints" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --workspace --no-deps --document-private-items
step "dependencies" env PATH="$PWD/.cache/tools/bin:$PATH" cargo deny --log-level error check bans licenses sources
step "descriptions of SQL" scripts/sqlx.sh check
step "fuzzing" scripts/fuzz.sh 20
step "docker" scripts/docker.sh
step "the program" cargo build --quiet --locked
step "demo" cargo run --quiet --locked --package testbed --bin demo -- --no-wait
# Nothing after it: its closing lines are the last ones.
echo "== tests"
exec cargo test --locked --workspace
