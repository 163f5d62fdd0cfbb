#!/usr/bin/env bash
# Lints every shell script of the repository and the Dockerfile, which must have the versions of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."
shellcheck scripts/*.sh .ci/run
shellcheck --shell=sh crates/testbed/src/guardian.sh crates/testbed/src/certificates.sh
.cache/python/bin/hadolint docker/Dockerfile

same() { # FILE PATTERN: the version after the pattern in the file must follow $3 in the Dockerfile
  local version
  version=$(sed -n "s/^$2\"\(.*\)\"/\1/p" "$1" | head -n 1)
  grep -qF "$3$version" docker/Dockerfile || { echo "docker/Dockerfile has another version than $version of $1" >&2; exit 1; }
}
same rust-toolchain.toml 'channel = ' 'FROM rust:'
same Cargo.toml 'version = ' 'image.version="'
