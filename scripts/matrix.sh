#!/usr/bin/env bash
# matrix.sh [FILTER...]: runs the integration tests with each version of Kafka and of PostgreSQL, the other server as in `make test`.
# FILTER: a part of a test's name, such as main_job::. Without one all tests run, about half an hour for each version.
#
# It prints a row for docs/versions.md for each version. The output of the tests is in target/matrix.
set -euo pipefail
cd "$(dirname "$0")/.."

filters=("$@")
failed=0
row() { # SERVERS VARIABLE=VALUE... [-- TEST...]: sets the variables, and leaves out the tests with these parts in their names
  local servers=$1 log variables=() left_out=()
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    variables+=("$1")
    shift
  done
  left_out=("${@:2}")
  scripts/filters.sh "${filters[@]}" "${left_out[@]}"
  log="target/matrix/$servers.log"
  env "${variables[@]}" cargo test --locked --test it -- "${filters[@]}" "${left_out[@]/#/--skip=}" >"$log" 2>&1 || failed=1
  # The filters can match only tests that are left out.
  ! grep -q '^test result: ok\. 0 passed' "$log" || failed=1
  echo "| $servers | $(date --utc +%F) | ${filters[*]:-all} | $(sed -n 's/^test result: \(.*\); 0 measured.*/\1/p' "$log") |"
}

mkdir -p target/matrix
cargo build --quiet --locked
# Before Kafka 4 there is no group.protocol=consumer. In a cluster with ZooKeeper, the test would have to find the controller.
scripts/kafka.sh 3.9.1
row "Kafka 3.9.1 with ZooKeeper" TEST_KAFKA=3.9.1-zookeeper -- newer_group_protocol broker_cluster::
row "Kafka 3.9.1" TEST_KAFKA=3.9.1 -- newer_group_protocol
for version in 4.0.1 4.1.1; do
  scripts/kafka.sh "$version"
  row "Kafka $version" TEST_KAFKA="$version"
done
row "Kafka 4.1.1, group.protocol=consumer" TEST_KAFKA=4.1.1 TEST_GROUP_PROTOCOL=consumer
for version in 14.20.0 15.15.0 16.11.0 17.7.0 18.1.0; do
  scripts/postgres.sh "$version"
  # These builds have no pg_basebackup, which makes a standby, and no translations.
  row "PostgreSQL ${version%.0}" PATH="$PWD/.cache/postgres-$version/bin:$PATH" -- several_servers:: check_names in_another_language
done
exit "$failed"
