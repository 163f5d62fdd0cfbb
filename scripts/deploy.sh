#!/usr/bin/env bash
# Checks deploy/: the configuration and the alerts of Prometheus, with the unit tests of the alerts, and the Kubernetes manifests
# against the schemas of an old and of the newest version.
set -euo pipefail
cd "$(dirname "$0")/.."

# Prints its report only if something is wrong.
quiet() {
  local report
  report=$("$@" 2>&1) || { echo "$report"; exit 1; }
}
quiet promtool check config deploy/prometheus/prometheus.yml
quiet promtool test rules deploy/prometheus/alerts_test.yml
for version in 1.27 1.37; do
  PYTHONPATH=.cache/kubernetes python3 -m kubernetes_validate --strict --quiet -k "$version" deploy/kubernetes/*.yaml
done

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
named=$(grep -ohE 'booking-history(:|-migrate-)[0-9][0-9.-]*' deploy/kubernetes/*.yaml docs/deploy.md | sort -u)
expected=$(printf '%s\n' "booking-history-migrate-${version//./-}" "booking-history:$version" | sort)
[ "$named" = "$expected" ] || { echo "the manifests or docs/deploy.md have another version than $version: $named" >&2; exit 1; }
