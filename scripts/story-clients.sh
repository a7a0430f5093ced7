#!/usr/bin/env bash
# Two clients that know nothing but libpq, through a failover: psql, which dials anew for every row, and pgbench, which
# keeps its connections and is started again when it has lost them. Prints what they counted.
#
#   scripts/story-clients.sh SERVICE_FILE SECONDS      the file is what `cluster connect` prints
set -euo pipefail
export PGSERVICEFILE=$1 PGSERVICE=write
end=$(($(date +%s) + $2))
now() { date +%s%3N; }

with_psql() {
    local rows=0 refused=0 gap=0 last at
    psql -XAtqc 'create table if not exists story_psql (at timestamptz default now())'
    last=$(now)
    while [ "$(date +%s)" -lt "$end" ]; do
        if psql -XAtqc 'insert into story_psql default values' 2>/dev/null; then
            at=$(now)
            rows=$((rows + 1)) gap=$((at - last > gap ? at - last : gap)) last=$at
        else
            refused=$((refused + 1))
        fi
        sleep 0.2
    done
    echo "   psql    $rows rows acknowledged, $(psql -XAtqc 'select count(*) from story_psql') present," \
        "$refused connections refused, longest gap $((gap / 1000)).$((gap % 1000 / 100)) s"
    psql -XAtqc 'drop table story_psql'
}

with_pgbench() {
    local starts=0 log left
    log=$(mktemp -d)
    # Its database must be named: it would take the user's name for one.
    pgbench -iq service=write 2>/dev/null
    now >"$log/times"
    while left=$((end - $(date +%s))) && [ $left -gt 0 ]; do
        starts=$((starts + 1))
        (cd "$log" && timeout $((left + 5)) pgbench -n -c 2 -R 50 -l -T $((left + 1)) service=write >/dev/null 2>&1) || :
        # Each line of its log is a transaction that was acknowledged; the fifth and sixth fields are when.
        find "$log" -name 'pgbench_log*' -exec awk '{ printf "%.0f\n", $5 * 1000 + $6 / 1000 }' {} + >>"$log/times"
        find "$log" -name 'pgbench_log*' -delete
        sleep 0.2
    done
    sort -n "$log/times" | awk -v starts=$starts -v present="$(psql -XAtqc 'select count(*) from pgbench_history')" '
        last && $1 - last > gap { gap = $1 - last }
        { last = $1 }
        END {
            printf "   pgbench %d transactions acknowledged, %d present, started %d times, longest gap %.1f s\n",
                NR - 1, present, starts, gap / 1000
        }'
    rm -rf "$log"
    psql -XAtqc 'drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers'
}

with_psql &
with_pgbench &
wait
