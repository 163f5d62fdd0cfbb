#!/usr/bin/env bash
# kafka.sh [VERSION]: downloads the broker of the tests into .cache/kafka, or another version into .cache/kafka-VERSION, unless it
# was downloaded with the same pom.xml.
set -euo pipefail
cd "$(dirname "$0")/.."

directory=.cache/kafka${1:+-$1}
cmp -s crates/testbed/kafka/pom.xml "$directory/pom.xml" && exit 0
rm -rf "$directory"
mvn --batch-mode --quiet -Dstyle.color=never --file crates/testbed/kafka/pom.xml dependency:copy-dependencies ${1:+-Dkafka.version="$1"} \
  -DoutputDirectory="$PWD/$directory"
# This copy is the last step: if the file exists, the download is complete.
cp crates/testbed/kafka/pom.xml "$directory/"
