#!/usr/bin/env bash
# Installs what the story needs beside the lab: Node.js with npm, pgbench, and with `pictures` a browser.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
command -v pgbench >/dev/null || missing+=(postgresql-contrib)
if [ "${1:-}" = pictures ]; then
    command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
fi
# Debian 12's Node.js is 18. A newer one goes beside the build, and nowhere else.
version=$(node --version)
major=${version#v} major=${major%%.*}
if [ "$major" -lt 20 ] && [ ! -x target/node/node_modules/.bin/node ]; then
    echo "installing Node.js 22 below target/node, since $version is too old for the example"
    mkdir -p target/node
    npm install --prefix target/node --no-audit --no-fund --loglevel=error node@22
fi
