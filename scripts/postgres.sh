#!/usr/bin/env bash
# postgres.sh VERSION: downloads another version of PostgreSQL for scripts/matrix.sh into .cache/postgres-VERSION.
set -euo pipefail
cd "$(dirname "$0")/.."

directory=$PWD/.cache/postgres-$1
[ ! -d "$directory" ] || exit 0
rm -rf "$directory.part"
mvn --batch-mode --quiet -Dstyle.color=never --file crates/testbed/postgres/pom.xml dependency:copy-dependencies -Dpostgres.version="$1" \
  -DoutputDirectory="$directory.part"
cd "$directory.part"
python3 -m zipfile --extract ./*.jar .
tar -xJf ./*.txz
rm -rf ./*.jar ./*.txz META-INF
# The last step: if the directory exists, it is complete.
mv "$directory.part" "$directory"
