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
    local starts=0 transactions=0 gap=0 log last first
    log=$(mktemp -d)
    last=$(now)
    pgbench -iq 2>/dev/null
    while [ "$(date +%s)" -lt "$end" ]; do
        rm -f "$log"/pgbench_log*
        starts=$((starts + 1))
        (cd "$log" && timeout $((end - $(date +%s) + 5)) pgbench -n -c 2 -R 50 -l -T $((end - $(date +%s) + 1)) >/dev/null 2>&1) || :
        # Each line of its log is a transaction that was acknowledged; the fifth and sixth fields are when.
        transactions=$((transactions + $(cat "$log"/pgbench_log* 2>/dev/null | wc -l)))
        if ls "$log"/pgbench_log* >/dev/null 2>&1 && [ -s "$(ls "$log"/pgbench_log* | head -n 1)" ]; then
            first=$(sort -n -k5,5 -k6,6 "$log"/pgbench_log* | awk 'NR == 1 {printf "%d", $5 * 1000 + $6 / 1000}')
            gap=$((first - last > gap ? first - last : gap))
            last=$(sort -n -k5,5 -k6,6 "$log"/pgbench_log* | awk 'END {printf "%d", $5 * 1000 + $6 / 1000}')
        fi
        sleep 0.2
    done
    echo "   pgbench $transactions transactions acknowledged, $(psql -XAtqc 'select count(*) from pgbench_history') present," \
        "started $starts times, longest gap $((gap / 1000)).$((gap % 1000 / 100)) s"
    rm -rf "$log"
    psql -XAtqc 'drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers'
}

with_psql &
with_pgbench &
wait
