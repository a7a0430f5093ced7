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
install -d -m 700 -o postgres -g postgres "$scratch"
as_postgres "$bin/initdb" -D "$scratch/data" --no-sync --auth=peer --locale=C --encoding=UTF8 >/dev/null
as_postgres tee "$scratch/data/postgresql.auto.conf" >/dev/null
if ! as_postgres "$bin/pg_ctl" -D "$scratch/data" -l "$scratch/log" -w -t 60 start >/dev/null 2>&1; then
    grep -E '(FATAL|ERROR|LOG|HINT|DETAIL):' "$scratch/log" >&2 || cat "$scratch/log" >&2
    die "PostgreSQL does not start with these settings"
fi
# A library for every session is looked for only when there is one.
if ! error=$(PGOPTIONS='' as_postgres "$bin/psql" -XAtqw -h "$scratch" -p 1 -d postgres -c 'select 1' 2>&1); then
    die "$error"
fi
install -d -m 755 /run/cluster
printf '%s\n' "$4" >/run/cluster/settings-tried
