#!/usr/bin/env bash
# packages.sh GROUP...: installs the missing Debian packages of these groups: build, database, kafka, browser, monitoring, lint, cost.
# The group docker installs nothing: it only checks that Docker can be used.
set -euo pipefail

missing=()
# need PACKAGE COMMAND...: the package is missing, unless the command succeeds.
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || missing+=("$package")
}
# A program, and not a function of this script.
has() { type -P "$1"; }
java_17() { [ "$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')" -ge 17 ]; }
postgres() { has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' || compgen -G '/usr/pgsql-*/bin/postgres'; }
pgbouncer() { PATH=$PATH:/usr/sbin:/usr/local/sbin has pgbouncer; }
chromium() { has chromium || has google-chrome; }

for what in "$@"; do
  case $what in
  build)
    if ! has cargo >/dev/null; then
      echo "Rust is missing: see https://rustup.rs (rust-toolchain.toml chooses the version)" >&2
      exit 1
    fi
    need gcc has gcc
    need g++ has g++
    need make has make
    need pkg-config has pkg-config
    need libssl-dev pkg-config --exists openssl
    # librdkafka's configure looks for it, and leaves OAUTHBEARER out without it. The program contains the curl of curl-sys.
    need libcurl4-openssl-dev pkg-config --exists libcurl
    ;;
  database)
    need postgresql postgres
    need postgresql-client has psql
    need pgbouncer pgbouncer
    need openssl has openssl
    need locales test -d /usr/share/i18n/locales
    need groff-base has groff
    ;;
  kafka)
    need default-jre-headless java_17
    need maven has mvn
    ;;
  browser)
    need chromium chromium
    ;;
  monitoring)
    need prometheus has promtool
    ;;
  lint)
    need shellcheck has shellcheck
    need python3-pip python3 -m pip --version
    ;;
  cost)
    need valgrind has valgrind
    ;;
  docker)
    if ! docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
      echo "Needed: a running Docker Engine that this user may use, and Docker Compose 2.24.4 or newer." >&2
      echo "See https://docs.docker.com/engine/install" >&2
      exit 1
    fi
    ;;
  *)
    echo "packages.sh: unknown group: $what" >&2
    exit 2
    ;;
  esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! has apt-get >/dev/null; then
  echo "Missing: ${missing[*]} (names of Debian packages). This system has no apt-get: install them with its package manager." >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! has sudo >/dev/null; then
    echo "Missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing missing packages: ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" \
  </dev/null
# These packages start a service for the whole machine, also without systemd. The tests start their own.
for service in pgbouncer prometheus; do
  if [[ " ${missing[*]} " == *" $service "* ]]; then
    "${as_root[@]}" service "$service" stop >/dev/null 2>&1 || true
    "${as_root[@]}" update-rc.d "$service" disable >/dev/null 2>&1 || true
  fi
done
