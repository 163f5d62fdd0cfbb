#!/usr/bin/env bash
# Lints every shell script of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
shellcheck scripts/*.sh .ci/run
shellcheck --shell=sh crates/testbed/src/guardian.sh crates/testbed/src/certificates.sh
