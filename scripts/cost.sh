#!/usr/bin/env bash
# cost.sh write | check: counts, with valgrind, what parse, batch and encode cost for one record: the instructions of our
# program, and its calls of the C library. `write` stores the figures. `check` fails if a figure differs from the stored
# one by more than the margin.
#
# No time is measured, so the load of the machine has no effect. The instructions inside the C library do not count: it
# chooses its code by its version and by the CPU. What we can change is how often we call it, to allocate, copy and compare.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1
margin=5 # percent
stored=crates/cost/$(uname -m).txt

# The profile of the service, so that the figures are those of the service.
cargo build --quiet --locked --release --package cost
program=$(realpath "${CARGO_TARGET_DIR:-target}/release/cost")
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT

for step in parse batch encode; do
  if ! valgrind --tool=callgrind --callgrind-out-file="$found/$step" --compress-strings=no --compress-pos=no \
    --toggle-collect="cost::$step" "$program" >"$found/log" 2>&1; then
    cat "$found/log" >&2
    exit 1
  fi
  # The line after `calls=` is the cost inside of the call. Each other line with a number is the cost of one source line of
  # the function before it. `cob=` is the file that has the called function, if it is not the file of the caller, `ob=`.
  awk -v step="$step" -v program="$program" -v records=10000 '
    /^ob=/ { object = substr($0, 4) }
    /^cob=/ { called = substr($0, 5) }
    /^calls=/ {
      if (object == program && called != "" && called != program) calls += substr($1, 7)
      called = ""
      getline
      next
    }
    /^[0-9]/ && object == program { instructions += $2 }
    END { printf "%s %d %.2f\n", step, instructions / records, calls / records }
  ' "$found/$step" >>"$found/figures"
done

if [ "$mode" = write ]; then
  {
    echo "# For one record: the instructions of our program, and its calls of the C library. Update with: make cost"
    cat "$found/figures"
  } >"$stored"
  cat "$stored"
elif [ ! -e "$stored" ]; then
  echo "nothing to compare with: $stored does not exist. To store these figures: make cost"
  cat "$found/figures"
  [ "$(uname -m)" != x86_64 ] # the gate of this kind of CPU has them
else
  awk -v margin="$margin" '
    function compare(step, name, before, now) {
      wrong = now == 0 || now > before * (1 + margin / 100) || now < before * (1 - margin / 100)
      printf "%-6s %8s %s, stored %s%s\n", step, now, name, before, wrong ? "  <-- differs" : ""
      differs += wrong
      compared++
    }
    /^#/ { next }
    FNR == NR { instructions[$1] = $2; calls[$1] = $3; next }
    { compare($1, "instructions", instructions[$1], $2); compare($1, "calls", calls[$1], $3) }
    END { exit differs || compared != 6 } # two figures of each step
  ' "$stored" "$found/figures" || {
    echo "a figure differs by more than $margin % from $stored. If the change is intended: make cost" >&2
    exit 1
  }
fi
