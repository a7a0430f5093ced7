#!/usr/bin/env bash
# Installs what the story needs beside the laboratory: Node.js with npm, pgbench, and with `pictures` a browser.
set -euo pipefail

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
version=$(node --version)
major=${version#v} major=${major%%.*}
if [ "$major" -lt 20 ]; then
    echo "Node.js $version is too old: the example needs 20 or newer, see https://nodejs.org" >&2
    exit 1
fi
