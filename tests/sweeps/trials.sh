#!/bin/sh
set -eu
# Has the server judge texts of settings as `cluster up` does, with its very script ($3) but for initdb. They stand on
# standard input, each behind a line `#job NUMBER`. Prints for each `NUMBER<tab>exit code<tab>what was said`.
version=$1 home=$2 script=$3
rm -rf "$home/jobs"
install -d -m 755 "$home/jobs"
chmod 755 "$home"
awk -v jobs="$home/jobs" '/^#job /{ file = jobs "/" $2; printf "" >file; next } { print >file }'
for job in $(find "$home/jobs" -type f -printf '%f\n' | sort -n); do
    said=$(timeout 30 sh "$script" sweep "$version" 1 tried <"$home/jobs/$job" 2>&1 >/dev/null) && code=0 || code=$?
    printf '%s\t%s\t%s\n' "$job" "$code" "$(printf '%s' "$said" | tr '\n\t' '  ')"
done
