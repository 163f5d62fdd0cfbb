#!/usr/bin/env bash
# Checks docker/ without a Docker engine: it lints the Dockerfile, lets Compose check its file, and runs the commands of
# the Dockerfile in a directory that has only the files that the Dockerfile copies.
# Not checked: the base images and the packages installed in them.
set -euo pipefail
cd "$(dirname "$0")/.."

.cache/python/bin/hadolint docker/Dockerfile
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi
"${compose[@]}" --file docker/compose.yml config --quiet
grep -q "^FROM rust:$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)-" docker/Dockerfile ||
  { echo "docker/Dockerfile uses another Rust version than rust-toolchain.toml" >&2; exit 1; }

# One instruction per line, without comments.
dockerfile=$(sed -e '/^#/d' -e ':join' -e '/\\$/{N;s/\\\n */ /;b join' -e '}' docker/Dockerfile)
build=$(sed -n '/ AS build$/,/^FROM debian/p' <<<"$dockerfile")

target=${CARGO_TARGET_DIR:-$PWD/target}
context=$PWD/.cache/docker
rm -rf "$context"
mkdir -p "$context"
while read -r instruction words; do
  case "$instruction $words" in
  COPY\ *)
    read -ra paths <<<"$words"
    # As Docker does, creates the directory of the target.
    mkdir -p "$(dirname "$context/${paths[-1]}")"
    cp -r "${paths[@]:0:${#paths[@]}-1}" "$context/${paths[-1]}"
    ;;
  RUN\ apt-get\ *) ;;
  RUN\ *)
    if ! (cd "$context" && CARGO_TARGET_DIR=$target sh -ec "$words" </dev/null) >"$context.log" 2>&1; then
      tail -n 60 "$context.log"
      exit 1
    fi
    ;;
  esac
done <<<"$build"

# The image has the program where COPY puts it, and starts it by ENTRYPOINT and CMD; compose replaces CMD.
from=$(sed -n 's|^COPY --from=build /build/target/\(.*\) .*|\1|p' <<<"$dockerfile")
list() { sed -n "s/^$1 \[\(.*\)\]/\1/p" <<<"$dockerfile" | tr -d '",'; }
read -ra entrypoint <<<"$(list ENTRYPOINT)"
read -ra command <<<"$(list CMD)"
mkdir "$context/bin"
cp "$target/$from" "$context/bin/"
for words in "${command[*]}" "migrate up"; do
  # shellcheck disable=SC2086 # each word is one argument
  env -i PATH="$context/bin" "${entrypoint[@]}" $words --help >/dev/null
done
# The image has each library that the program loads: the parts of libc, libgcc, and OpenSSL of libssl3.
if ldd "$context/bin/${entrypoint[0]}" | grep -Ev 'linux-vdso|ld-linux|lib(c|m|gcc_s|dl|rt|pthread|ssl|crypto)\.so'; then
  echo "the program needs a library that the image does not have" >&2
  exit 1
fi
