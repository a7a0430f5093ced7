#!/bin/sh
# Enables a service and starts it anew, so that it reads its unit and its configuration: UNIT.
set -eu
systemctl daemon-reload
systemctl -q enable "$1"
systemctl restart "$1"
tries=0
while [ "$(systemctl is-active "$1")" != active ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then
        journalctl -q --no-pager -u "$1" -n 12 >&2
        exit 1
    fi
    sleep 0.1
done
