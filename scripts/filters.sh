#!/usr/bin/env bash
# filters.sh FILTER...: fails if a filter matches no integration test, because a run with it would test nothing and succeed.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=$(cargo test --quiet --locked --test it -- --list)
for filter in "$@"; do
  grep -qF -- "$filter" <<<"$tests" || { echo "no integration test has $filter in its name" >&2; exit 1; }
done
