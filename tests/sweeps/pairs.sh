#!/bin/sh
set -eu
# Plays pairs, some at a time: VERSION HOME AT-ONCE. On standard input their settings, each behind a line `#job NUMBER`.
version=$1 home=$2 at_once=$3
rm -rf "$home/jobs"
install -d -m 755 -o postgres -g postgres "$home/jobs"
cd /
# shellcheck disable=SC2016
runuser -u postgres -- awk -v jobs="$home/jobs" '/^#job /{ file = jobs "/" $2; printf "" >file; next } { print >file }'
find "$home/jobs" -type f -printf '%f\n' | sort -n |
    xargs -P "$at_once" -I '{}' runuser -u postgres -- timeout -k 60 150 sh "$home/pair.sh" "$version" "$home" '{}'
