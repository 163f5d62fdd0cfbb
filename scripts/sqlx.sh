#!/usr/bin/env bash
# sqlx.sh write | check: a private PostgreSQL with all migrations describes each SQL statement that is checked at compile
# time. `write` stores the descriptions in .sqlx. `check` fails if .sqlx has other descriptions. A build without a database
# uses .sqlx.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1

# shellcheck disable=SC2012 # version numbers in paths of packages
postgres=$(command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
postgres=$(dirname "$(readlink -f "$postgres")")
as=()
[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)

# The guardian stops the server and removes its directory however this script ends.
coproc GUARDIAN { cd / && exec "${as[@]}" sh "$OLDPWD/crates/testbed/src/guardian.sh" QUIT 2>/dev/null; }
read -r directory <&"${GUARDIAN[0]}"
ask() {
  local answer
  echo "$*" >&"${GUARDIAN[1]}"
  read -r answer <&"${GUARDIAN[0]}"
  echo "$answer"
}
if [ "$(ask run "'$postgres/initdb' -D data -U postgres -A trust -E UTF8 --no-locale --no-sync >log 2>&1")" != 0 ]; then
  cat "$directory/log" >&2
  exit 1
fi
ask start "exec '$postgres/postgres' -D data -c listen_addresses= -c unix_socket_directories='$directory' >>log 2>&1" \
  >/dev/null
psql=(psql --host="$directory" --username=postgres --no-psqlrc --quiet --set=ON_ERROR_STOP=1)
for _ in {1..200}; do
  "${psql[@]}" --command='select 1' >/dev/null 2>&1 && break
  sleep 0.1
done
for migration in migrations/*.up.sql; do
  "${psql[@]}" --single-transaction --file="$migration" >/dev/null
done

found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
# The macros write the descriptions during the compilation. The cfg has a new value each time, so that cargo compiles them.
export DATABASE_URL="postgresql:///postgres?host=$directory&user=postgres" SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$found"
for package in fenced-sink booking-history; do
  cargo rustc --quiet --locked --package "$package" --lib --profile check -- \
    --cap-lints allow --cfg "described=\"$(date +%s%N)\""
done
unset DATABASE_URL SQLX_OFFLINE SQLX_OFFLINE_DIR

if [ "$mode" = write ]; then
  rm -rf .sqlx
  mkdir .sqlx
  cp "$found"/query-*.json .sqlx/
elif ! diff -r .sqlx "$found"; then
  echo ".sqlx does not match the statements and migrations; to update it: make sqlx" >&2
  exit 1
fi
