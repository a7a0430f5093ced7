#!/bin/sh
# Fetches apt's lists, and waits for whoever else does.
set -eu
export DEBIAN_FRONTEND=noninteractive
tries=0
while :; do
    status=0
    output=$(apt-get -q -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update 2>&1) || status=$?
    case $output in
        *"Could not get lock"*)
            tries=$((tries + 1))
            if [ "$tries" -gt 150 ]; then break; fi
            printf 'progress\twaiting: %s\n' "$(printf '%s' "$output" | grep -m 1 'Could not get lock')"
            sleep 2
            ;;
        *) break ;;
    esac
done
printf '%s\n' "$output"
exit "$status"
