#!/bin/sh
# Enables services and starts them anew, so that they read their units and their configuration.
set -eu
systemctl daemon-reload
systemctl -q enable "$@"
systemctl restart "$@"
for unit; do
    tries=0
    while state=$(systemctl is-active "$unit" || :) && [ "$state" != active ]; do
        tries=$((tries + 1))
        # repmgrd leaves and is started again for as long as PostgreSQL is not there; that is not this step's matter, and
        # between the two it is inactive for a moment.
        [ "$tries" -gt 30 ] && [ "$state" = activating ] && break
        if [ "$tries" -gt 100 ]; then
            journalctl -q --no-pager -u "$unit" -n 12 >&2
            exit 1
        fi
        sleep 0.1
    done
done
