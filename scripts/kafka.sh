#!/usr/bin/env bash
# Puts the tests' broker into .cache/kafka, unless what is there was made from this very pom.xml.
set -euo pipefail
cd "$(dirname "$0")/.."

cmp -s crates/testbed/kafka/pom.xml .cache/kafka/pom.xml && exit 0
rm -rf .cache/kafka
mvn --batch-mode --quiet --file crates/testbed/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/kafka"
# Last, so that its being there means that all is there.
cp crates/testbed/kafka/pom.xml .cache/kafka/
