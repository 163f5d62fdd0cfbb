#!/usr/bin/env bash
# fuzz.sh SECONDS: runs each fuzz target for so long, from its committed seeds. What it finds stays in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.cache/tools/bin:$PATH

targets=$(cargo fuzz list)
for target in $targets; do
  echo "fuzzing $target for $1 s"
  # New finds go to a directory of their own, so that the committed seeds stay as they are.
  mkdir -p ".cache/fuzz/$target"
  # Without a sanitizer it runs on the pinned stable toolchain.
  if ! cargo fuzz run --sanitizer none "$target" ".cache/fuzz/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$1" >".cache/fuzz/$target.log" 2>&1; then
    tail -n 60 ".cache/fuzz/$target.log"
    exit 1
  fi
  grep "^Done" ".cache/fuzz/$target.log"
done
