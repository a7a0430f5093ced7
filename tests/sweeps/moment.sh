#!/bin/sh
# Restores one moment beside the data of this node with the scripts that `cluster restore` uses, and prints how many rows
# of t the copy has and its last: RESTORE_UNIT KIND TARGET END, as root on a data node. The copy is thrown away.
set -eu
unit=$1 kind=$2 target=$3 end=$4
data=/var/lib/postgresql/15/main
copy=$data.cluster-restored
bin=/usr/lib/postgresql/15/bin
socket=/run/cluster/moment
sh "$unit" demo 15 5432 "$kind" "$target" beside /etc/cluster/pgbackrest.conf demo 100000000 "$end" >/tmp/moment.log 2>&1 || {
    tail -n 3 /tmp/moment.log
    exit 1
}
as_postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@" </dev/null); }
install -d -o postgres -g postgres -m 700 "$socket"
as_postgres "$bin/pg_ctl" -D "$copy" -s -w -l /var/log/postgresql/moment.log -o "-c config_file=/etc/postgresql/15/main/postgresql.conf \
-c data_directory=$copy -c listen_addresses= -c unix_socket_directories=$socket -c external_pid_file= -c shared_buffers=32MB \
-c 'archive_command=exit 143'" start
as_postgres "$bin/psql" -XAtqw -h "$socket" -d app -c 'select count(*), coalesce(max(id), 0) from t'
as_postgres "$bin/pg_ctl" -D "$copy" -s -w -m immediate stop
rm -f /var/lib/cluster/restored
as_postgres rm -rf "$copy"
