#!/usr/bin/env bash
# The story of the cluster, told by its application, which runs from the beginning to the end and is never restarted:
# the standby is away, the primary is lost, it comes back, and a switchover restores the order of the beginning. Prints
# what the clients counted, and fails if they noticed more than they may.
#
#   scripts/story.sh [--pictures DIRECTORY]
#
# A lab of its own is made for it and taken away again, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${STORY_NAME:-story} port=${STORY_PORT:-8482} subnet=${STORY_SUBNET:-10.98.0.0/16} page=${STORY_PAGE:-3080}
cluster=${STORY_CLUSTER:-target/release/cluster}
work=$PWD/target/story inventory=$PWD/target/story/inventory.yaml home=/var/lib/cluster-lab/$name
pictures=
[ "${1:-}" = --pictures ] && pictures=$(realpath -m "$2")
# An unanswered query is given up after three seconds, and the next node asked; two in a row would be too many.
longest_read_gap=5500
# What a client may add to the time until the address leads to the new primary: it must find out, and dial again.
longest_extra_gap=3000

export CLUSTER_STATE_DIR=$work/state DATABASE=$work/database.json
app='' load='' look='' began=$SECONDS

chapter() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - began)); }
run() {
    printf '$ %s\n' "$*"
    "$@"
}
die() {
    echo "story: $*" >&2
    exit 1
}

# However it ends, nothing stays: no application, no droplet, no lab.
clean() {
    for process in $load $app $look; do kill "$process" 2>/dev/null || :; done
    "$cluster" lab stop --name "$name" >/dev/null 2>&1 || :
}
trap clean EXIT
trap 'exit 130' INT TERM

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $limit ] || die "still waiting for $what"
        sleep 0.3
    done
}

# What the provider's own control panel would do.
api() {
    curl -sS -m 30 -H "Authorization: Bearer $(cat "$home/token")" -H 'content-type: application/json' \
        "http://127.0.0.1:$port$1" "${@:2}"
}
power() {
    local id
    id=$(api "/v2/droplets?tag_name=cluster:$name" | jq -er ".droplets[] | select(.name == \"$1\").id")
    echo "$1: power $2"
    api "/v2/droplets/$id/actions" -d "{\"type\":\"power_$2\"}" >/dev/null
}
status() { "$cluster" status -i "$inventory" --json || [ $? = 4 ]; }
show_status() { "$cluster" status -i "$inventory" >"$work/status.txt"; }
healthy() { [ "$(status | jq -r .healthy)" = true ]; }
primary_is() { [ "$(status | jq -r .primary)" = "$1" ]; }
takes_writes() {
    [ "$(PGSERVICEFILE=$work/nodes.conf psql -XAtqc 'select not pg_is_in_recovery()' "service=$1" 2>/dev/null)" = t ]
}

# Whoever writes through the address reaches the node.
is_behind_the_address() {
    [ "$(PGSERVICEFILE=$work/service.conf psql -XAtqc "select current_setting('cluster_name')" service=write 2>/dev/null)" = "$1" ]
}

# The page in a browser, if pictures are wanted.
see() {
    [ -n "$pictures" ] || return 0
    echo "$*" >&"${look_in}"
    read -r -t 90 answer <&"${look_out}" || die "the page: no answer to \"$*\""
    echo "page: $answer"
}

# The clients of the application: `load` until `counts`, which prints what they saw and keeps it in $seen.
load() {
    (cd examples/sequelize && exec node load.js --url "http://127.0.0.1:$page" --label "$1" --json) >"$work/load.json" &
    load=$!
    sleep 3
}
counts() {
    sleep 3
    kill -TERM "$load"
    wait "$load" || :
    load=''
    seen=$(cat "$work/load.json")
    jq -r '
        def s: . / 100 | round / 10 | tostring + " s";
        def line: "\(.answered) answered, \(.failed) failed, longest gap \(.longest_gap_ms | s) (\(.nodes | to_entries | map("\(.key) \(.value)") | join(", ")))";
        "   writes  \(.writes | line)\n   reads   \(.reads | line)\n   rows    \(.rows.acknowledged) acknowledged, \(.rows.present) present, \(.rows.lost) lost"
    ' <<<"$seen"
    kill -0 "$app" || die "the application has ended: $(tail -n 3 "$work/app.log")"
}
# expect JQ WHAT: of what the clients saw.
expect() { jq -e "$1" <<<"$seen" >/dev/null || die "expected: $2"; }
unnoticed() {
    expect '.writes.failed == 0 and .reads.failed == 0' 'no request failed'
    expect ".reads.longest_gap_ms <= $longest_read_gap" 'reads were not interrupted for longer than one time-out'
}

[ "$(id -u)" = 0 ] || die "the lab needs root: sudo make story"
mkdir -p "$work"
rm -rf "$CLUSTER_STATE_DIR"
scripts/story-prerequisites.sh ${pictures:+pictures}
PATH=$PWD/target/node/node_modules/.bin:$PATH

chapter "A lab, and a cluster in it"
# shellcheck disable=SC2086
run "$cluster" lab start --name "$name" --port "$port" --subnet "$subnet" ${STORY_LAB_OPTIONS:-}
sed -e "s|^cluster: .*|cluster: $name|" -e "s|127.0.0.1:[0-9]*|127.0.0.1:$port|" -e "s|spaces.lab:[0-9]*|spaces.lab:$((port + 1000))|" \
    -e "s|/var/lib/cluster-lab/[^/]*/|$home/|" \
    -e '/^users:/,/^databases:/s|^  - name: app$|&\n  - {name: postgres, password: "the-tutorial-of-2020"}|' \
    -e '/^databases:/,$s|^  - name: app$|&\n  - {name: tutorial, owner: postgres}|' \
    inventories/lab.yaml >"$inventory"
run "$cluster" up -i "$inventory"

chapter "The application starts, and will not be restarted"
run "$cluster" connect -i "$inventory" --format sequelize --with-password --output "$DATABASE"
"$cluster" connect -i "$inventory" --output "$work/service.conf" 2>/dev/null
# The nodes themselves, to tell the time of the failover from the time that the clients add.
"$cluster" connect -i "$inventory" --format json 2>/dev/null | jq -r '. as $c | .read[] |
    "[\(.node)]\nhost=\(.host)\nport=\($c.port)\nuser=\($c.user)\ndbname=\($c.database)\npassfile=\($c.password_file)\nsslmode=require\nconnect_timeout=2\n"' \
    >"$work/nodes.conf"
(cd examples/sequelize && exec npm install --no-audit --no-fund --loglevel=error)
# For a moment, as the tutorial had it: as postgres, with the password that the inventory declares.
run "$cluster" connect -i "$inventory" --user postgres --database tutorial --format sequelize --with-password \
    --output "$work/tutorial.json"
(cd examples/sequelize && PORT=$page DATABASE=$work/tutorial.json exec node server.js) >"$work/tutorial.log" 2>&1 &
app=$!
add_country() {
    curl -sf -H 'content-type: application/json' -d '{"name":"Estonia","is_eu_member":true}' \
        "http://127.0.0.1:$page/api/countries" >/dev/null
}
wait_for 30 "the application, as postgres" add_country
kill "$app"
wait "$app" 2>/dev/null || :
echo "as postgres, it has written a country"
(cd examples/sequelize && PORT=$page exec node server.js) >"$work/app.log" 2>&1 &
app=$!
wait_for 30 "the application" curl -sfo "$work/countries.json" "http://127.0.0.1:$page/api/countries"
cat "$work/app.log"
if [ -n "$pictures" ]; then
    mkdir -p "$pictures"
    coproc LOOK { cd examples/sequelize && exec node browser/look.js "http://127.0.0.1:$page"; }
    look=$LOOK_PID look_in=${LOOK[1]} look_out=${LOOK[0]}
fi
see see Estonia
load "a quiet time"
sleep 5
counts
unnoticed
expect '.rows.lost == 0' 'no row lost'

chapter "The standby is away for a while"
load "the standby is away"
power pg2 off
sleep 12
power pg2 on
wait_for 120 "pg2 to stream again" healthy
counts
unnoticed
expect '.rows.lost == 0' 'no row lost'
sleep 20
see shot "$pictures/before.png"

chapter "The primary is lost: its plug is pulled"
load "power-off of pg1"
scripts/story-clients.sh "$work/service.conf" 60 >"$work/clients.txt" 2>&1 &
clients=$!
sleep 5
cut=$(date +%s%3N)
power pg1 off
(
    wait_for 120 "pg2 to take writes" takes_writes pg2
    echo $(($(date +%s%3N) - cut)) >"$work/failover"
    wait_for 120 "the address to lead to pg2" is_behind_the_address pg2
    echo $(($(date +%s%3N) - cut)) >"$work/moved"
) &
failover=$!
sleep 5
see add Iceland
see see "Writing Iceland"
see shot "$pictures/during.png"
wait "$failover" || die "no failover"
took=$(cat "$work/failover") moved=$(cat "$work/moved")
wait_for 60 "the status" primary_is pg2
see see "Iceland was written by"
wait "$clients" || :
counts
cat "$work/clients.txt"
echo "   pg2 took writes $(jq -n "$took / 100 | round / 10") s after the cut, and through the address after $(jq -n "$moved / 100 | round / 10") s"
unnoticed
expect ".writes.longest_gap_ms <= $moved + $longest_extra_gap" 'clients add at most three seconds to the failover'
see shot "$pictures/after.png"

chapter "The old primary is switched on again, and comes back as a standby"
load "the old primary returns"
power pg1 on
wait_for 180 "redundancy" healthy
counts
unnoticed
expect '.rows.lost == 0' 'no row lost'
# A host that is busy may not answer the first time.
wait_for 60 "a healthy status" show_status
echo "\$ $cluster status -i $inventory"
cat "$work/status.txt"

chapter "A switchover restores the order of the beginning"
load "switchover to pg1"
run "$cluster" switchover pg1 -i "$inventory"
wait_for 120 "a healthy cluster" healthy
counts
unnoticed
expect '.rows.lost == 0' 'no row lost'
wait_for 60 "pg1 to take writes" primary_is pg1
see shot "$pictures/switchover.png"

chapter "The end"
echo "The application, process $app, ran all the while; nobody restarted it."
run "$cluster" down -i "$inventory" --yes
