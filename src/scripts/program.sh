#!/bin/sh
# Installs the node's program from standard input: PATH SHA256.
set -eu
cat >"$1.new"
echo "$2  $1.new" | sha256sum -c --quiet
chmod 755 "$1.new"
# What does not run here takes the place of nothing.
"$1.new" --version >/dev/null
mv -f "$1.new" "$1"
