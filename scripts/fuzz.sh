#!/usr/bin/env bash
# fuzz.sh SECONDS: runs each fuzz target for this time, from its committed seeds. Crashes are stored in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.cache/cargo-fuzz/bin:$PATH

targets=$(cargo fuzz list)
for target in $targets; do
  echo "fuzzing $target for $1 s"
  # New inputs are stored in another directory, so that the committed seeds do not change.
  mkdir -p ".cache/fuzz/$target"
  # Without a sanitizer, cargo-fuzz works with the pinned stable toolchain.
  if ! cargo fuzz run --sanitizer none "$target" ".cache/fuzz/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$1" >".cache/fuzz/$target.log" 2>&1; then
    tail -n 60 ".cache/fuzz/$target.log"
    exit 1
  fi
  grep "^Done" ".cache/fuzz/$target.log"
done
