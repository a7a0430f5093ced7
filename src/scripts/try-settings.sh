set -eu
# Starts a PostgreSQL of its own with the settings on standard input, on an empty data directory and without a port, and
# takes it away again: whether a value works is for the server itself to say, before any node has it. $4 is the hash of
# what is tried; it is noted once the server has started.
scratch=/var/lib/postgresql/.cluster-trial
as_postgres() { (cd / && runuser -u postgres -- "$@"); }
clean() {
    if [ -e "$scratch/data/postmaster.pid" ]; then as_postgres "$bin/pg_ctl" -D "$scratch/data" -m immediate -w stop >/dev/null 2>&1 || :; fi
    runuser -u postgres -- rm -rf "$scratch"
}
trap clean EXIT
# What a trial that was cut off has left.
clean
# By postgres, who may have put something else in its place meanwhile.
as_postgres mkdir -m 700 "$scratch"
as_postgres "$bin/initdb" -D "$scratch/data" --no-sync --auth=peer --locale=C --encoding=UTF8 >/dev/null
as_postgres tee "$scratch/data/postgresql.auto.conf" >/dev/null
# With TLS and the certificate of this node: without, a wrong value for it shows at the next restart alone.
of_node() { as_postgres "$bin/postgres" -C "$1" -c "config_file=/etc/postgresql/$version/main/postgresql.conf" 2>/dev/null; }
if certificate=$(of_node ssl_cert_file) && key=$(of_node ssl_key_file); then
    tls="ssl_cert_file = '$certificate'
ssl_key_file = '$key'"
else
    # What is wrong there is told elsewhere.
    tls='ssl = off'
fi
echo "$tls" | as_postgres tee -a "$scratch/data/postgresql.auto.conf" >/dev/null
if ! as_postgres "$bin/pg_ctl" -D "$scratch/data" -l "$scratch/log" -w -t 60 start >/dev/null 2>&1; then
    # shellcheck disable=SC2016
    as_postgres sh -c 'grep -E "(FATAL|ERROR|LOG|HINT|DETAIL):" "$1" || cat "$1"' sh "$scratch/log" >&2 || :
    die "PostgreSQL does not start with these settings"
fi
# A library for every session is looked for only when there is one.
if ! error=$(PGOPTIONS='' as_postgres timeout 30 "$bin/psql" -XAtqw -h "$scratch" -p 1 -d postgres -c 'select 1' 2>&1); then
    die "${error:-PostgreSQL accepts no session within 30 s with these settings}"
fi
install -d -m 755 /run/cluster
printf '%s\n' "$4" >/run/cluster/settings-tried
