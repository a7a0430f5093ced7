#!/bin/sh
# Enables services and starts them anew, so that they read their units and their configuration.
set -eu
# By path: for a name that a package has an init script for, systemctl runs the tools of that besides, for a third of a
# second.
for unit; do systemctl -q --no-reload enable "/etc/systemd/system/$unit.service"; done
# PostgreSQL's unit has a file of ours, too.
case $(systemctl show -p UnitFileState,NeedDaemonReload "$@"). in
    *NeedDaemonReload=yes* | *UnitFileState=[!e]*) systemctl daemon-reload ;;
    *) case $(systemctl show -p NeedDaemonReload 'postgresql@*') in *=yes*) systemctl daemon-reload ;; esac ;;
esac
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
