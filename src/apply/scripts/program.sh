#!/bin/sh
# Installs the node's program from standard input: PATH SHA256.
set -eu
cat >"$1.new"
echo "$2  $1.new" | sha256sum -c --quiet
chmod 755 "$1.new"
mv -f "$1.new" "$1"
