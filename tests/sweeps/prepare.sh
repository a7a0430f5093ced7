#!/bin/sh
set -eu
# Makes, once, what every pair is a copy of: a primary p and its standby s, stopped, in the directory $2 of PostgreSQL $1.
# On standard input: what the role repmgr obeys, as lines of `name=value`. Prints what the server says of its settings.
version=$1 home=$2
bin=/usr/lib/postgresql/$version/bin
export LC_ALL=C
cd /
rm -rf "$home"
install -d -m 700 -o postgres -g postgres "$home"
as_postgres() { runuser -u postgres -- "$@"; }
as_postgres "$bin/initdb" -D "$home/empty" --no-sync --auth=peer --locale=C --encoding=UTF8 >/dev/null
cp -a "$home/empty" "$home/p"
as_postgres tee "$home/p/pg_hba.conf" >/dev/null <<'HBA'
local   all          postgres                peer
local   repmgr       repmgr                  peer map=cluster
hostssl repmgr       repmgr   127.0.0.1/32   scram-sha-256
hostssl replication  repmgr   127.0.0.1/32   scram-sha-256
HBA
echo 'cluster postgres repmgr' | as_postgres tee "$home/p/pg_ident.conf" >/dev/null
echo '*:*:*:*:of-the-pairs' | as_postgres tee "$home/pgpass" >/dev/null
chmod 600 "$home/pgpass"
# As `try-settings.sh` has it, but that a new data directory is a copy: a server's judgement costs no initdb.
install -d -m 755 -o postgres -g postgres "$home/bin"
for program in "$bin"/*; do ln -s "$program" "$home/bin/"; done
rm "$home/bin/initdb"
# shellcheck disable=SC2016
printf '#!/bin/sh\nexec cp -a %s/empty "$2"\n' "$home" >"$home/bin/initdb"
chmod 755 "$home/bin/initdb"

certificate=/etc/ssl/certs/ssl-cert-snakeoil.pem key=/etc/ssl/private/ssl-cert-snakeoil.key
# What the package would have made, for the script that looks there for a certificate.
install -d -m 755 "/etc/postgresql/$version/main"
cat >"/etc/postgresql/$version/main/postgresql.conf" <<CONF
data_directory = '$home/empty'
hba_file = '$home/empty/pg_hba.conf'
ident_file = '$home/empty/pg_ident.conf'
ssl_cert_file = '$certificate'
ssl_key_file = '$key'
CONF
as_postgres tee -a "$home/p/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
port = 20000
unix_socket_directories = '$home'
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$certificate'
ssl_key_file = '$key'
wal_log_hints = on
max_wal_senders = 10
CONF
pg() { as_postgres "$bin/pg_ctl" -D "$home/$1" -l "$home/log" -w -t 60 "$2" >/dev/null; }
sql() { as_postgres "$bin/psql" -XAtqw -v ON_ERROR_STOP=1 -h "$home" -p 20000 "$@"; }
pg p start || { cat "$home/log" >&2 && exit 1; }
sql -d postgres -c "create role repmgr superuser replication login password 'of-the-pairs'" \
    -c 'create database repmgr owner repmgr' \
    -c "select pg_create_physical_replication_slot('s', true)" >/dev/null
while IFS='=' read -r name value; do sql -d postgres -c "alter role repmgr set $name = '$value'"; done
# As repmgr has it, and the words that `cluster` adds.
conninfo="host=127.0.0.1 port=20000 user=repmgr passfile=$home/pgpass sslmode=require channel_binding=require application_name=s"
as_postgres "$bin/pg_basebackup" -D "$home/s" -d "$conninfo" -c fast -X stream
as_postgres touch "$home/s/standby.signal"
sql -d postgres -F "$(printf '\t')" -c "
    select name, vartype, coalesce(min_val, ''), coalesce(max_val, ''), coalesce(boot_val, ''),
        coalesce(array_to_string(enumvals, ','), ''), category, context from pg_settings order by name"
pg p stop
echo described:
as_postgres "$bin/postgres" --describe-config | cut -f 1
