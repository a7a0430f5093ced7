#!/bin/sh
# Starts and enables a service, or restarts it: UNIT start|restart.
set -eu
systemctl daemon-reload
systemctl -q enable "$1"
systemctl "$2" "$1"
sleep 0.5
if [ "$(systemctl is-active "$1")" = failed ]; then
    journalctl -q --no-pager -u "$1" -n 12 >&2
    exit 1
fi
