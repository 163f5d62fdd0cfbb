#!/usr/bin/env bash
# Downloads the broker of the tests into .cache/kafka, unless it was downloaded with the same pom.xml.
set -euo pipefail
cd "$(dirname "$0")/.."

cmp -s crates/testbed/kafka/pom.xml .cache/kafka/pom.xml && exit 0
rm -rf .cache/kafka
mvn --batch-mode --quiet --file crates/testbed/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/kafka"
# This copy is the last step: if the file exists, the download is complete.
cp crates/testbed/kafka/pom.xml .cache/kafka/
