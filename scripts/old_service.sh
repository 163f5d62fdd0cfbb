#!/usr/bin/env bash
# Installs the pinned libraries of the Python service that a test replaces into .cache/old-service.
set -euo pipefail
cd "$(dirname "$0")/.."

libraries=(aiokafka==0.12.0 asyncpg==0.30.0 'sqlalchemy[asyncio]==2.0.36')
[ "$(cat .cache/old-service/installed 2>/dev/null)" = "${libraries[*]}" ] && exit 0
rm -rf .cache/old-service
python3 -m pip install --quiet --disable-pip-version-check --target .cache/old-service "${libraries[@]}"
# This line is the last step: if the file exists, the installation is complete.
echo "${libraries[*]}" >.cache/old-service/installed
