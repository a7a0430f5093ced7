#!/bin/sh
# A PostgreSQL of its own archives to, is backed up to and restored from the bucket `demo`. Run by root in a mount
# namespace of its own: the name of the object storage is added to its /etc/hosts alone.
# $1: a directory, $2: the port of the object storage, $3: its CA. The key is in the environment.
set -eu
home=$1 port=$2 ca=$3
# The last one is the newest.
for bin in /usr/lib/postgresql/*/bin; do :; done

cp /etc/hosts "$home/hosts"
echo "127.0.0.1 spaces.lab" >>"$home/hosts"
mount --bind "$home/hosts" /etc/hosts

mkdir "$home/pg" "$home/log" "$home/lock" "$home/spool"
umask 077
cat >"$home/pgbackrest.conf" <<END
[global]
repo1-type=s3
repo1-path=/a/path/that/is/longer/than/some/servers/of/s3/can/bear/in/the/name/of/a/file
repo1-s3-bucket=demo
repo1-s3-endpoint=spaces.lab
repo1-s3-region=fra1
repo1-s3-key=$ACCESS_KEY
repo1-s3-key-secret=$SECRET_KEY
repo1-s3-uri-style=path
repo1-storage-host=spaces.lab
repo1-storage-port=$port
repo1-storage-ca-file=$ca
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=correct-horse
repo1-bundle=y
repo1-retention-full=1
start-fast=y
compress-type=zst
process-max=2
archive-timeout=60
io-timeout=15
log-level-file=off
log-path=$home/log
lock-path=$home/lock
spool-path=$home/spool
[demo]
pg1-path=$home/pg/data
pg1-socket-path=$home/pg
END
chown -R postgres "$home/pg" "$home/log" "$home/lock" "$home/spool" "$home/pgbackrest.conf"
chmod 0755 "$home"

as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$home/pg" "$@"; }
backrest() { as_postgres pgbackrest --config="$home/pgbackrest.conf" --stanza=demo "$@"; }
sql() { as_postgres psql -XAtq -h "$home/pg" -d postgres -c "$1"; }
begin() {
    as_postgres "$bin/pg_ctl" -D "$1" -w -t 60 -l "$home/log/server" \
        -o "-c listen_addresses='' -c unix_socket_directories=$home/pg -c fsync=off $2" start >/dev/null
}
end() { as_postgres "$bin/pg_ctl" -D "$1" -m immediate stop >/dev/null 2>&1 || true; }
trap 'end "$home/pg/data"; end "$home/pg/restored"' EXIT
step() { echo "== $1"; }

cd /
as_postgres "$bin/initdb" -D "$home/pg/data" --data-checksums --auth=peer >/dev/null
begin "$home/pg/data" "-c archive_mode=on -c archive_command='pgbackrest --config=$home/pgbackrest.conf --stanza=demo archive-push %p'"
step stanza-create && backrest stanza-create
step check && backrest check
sql "create table t as select g, repeat(md5(g::text), 10) as filler from generate_series(1, 50000) g"
step full && backrest --type=full backup
sql "insert into t select g, 'more' from generate_series(50001, 60000) g"
step incremental && backrest --type=incr backup
step second && backrest --type=full backup
sql "insert into t values (60001, 'last')"
sql "select pg_switch_wal()" >/dev/null
step archived
for _ in $(seq 60); do
    [ "$(sql "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'")" = 0 ] && break
    sleep 0.5
done
step info && backrest info
step verify && backrest verify
step expire && backrest expire
step list && backrest repo-ls archive/demo
step nothing && backrest repo-ls no/such/path
end "$home/pg/data"
step restore && backrest --pg1-path="$home/pg/restored" restore
begin "$home/pg/restored" "-c archive_mode=off"
for _ in $(seq 60); do
    [ "$(sql 'select pg_is_in_recovery()')" = f ] && break
    sleep 0.5
done
echo "rows: $(sql 'select count(*) from t')"
step delete && backrest stop && backrest stanza-delete --force
