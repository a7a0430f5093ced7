#!/usr/bin/env bash
# What the benchmarks share: a lab with bare hosts, and measuring. Sourced; sets cluster, work and CLUSTER_STATE_DIR, and
# cleans up at exit. The caller sets lab, port and subnet first, and has `set -euo pipefail`.
# shellcheck disable=SC2154
if [ "$(id -u)" != 0 ]; then
    echo "$0: needs root, as its hosts are containers of the lab" >&2
    exit 1
fi
cluster=$(realpath -m "${BENCH_CLUSTER:-target/release/cluster}")
if [ ! -x "$cluster" ]; then
    echo "$0: there is no $cluster: run \`make build\`, or set BENCH_CLUSTER" >&2
    exit 1
fi
if [[ $("$cluster" lab status --name "$lab" 2>/dev/null) == *": running"* ]]; then
    echo "$0: the lab \`$lab\` runs: wait for the other benchmark, or \`$cluster lab stop --name $lab\` what it has left" >&2
    exit 1
fi
work=$(mktemp -d)
# Numbers with a point, whatever the language.
export CLUSTER_STATE_DIR=$work/state CI=true LC_ALL=C.UTF-8
clean_up() {
    # Connections that a tool has kept lead to hosts that go.
    for socket in "$work"/kept-*; do
        if [ -S "$socket" ]; then ssh -o ControlPath="$socket" -O exit none 2>/dev/null || :; fi
    done
    "$cluster" lab stop --name "$lab" >/dev/null 2>&1 || :
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

start_lab() {
    "$cluster" lab start --name "$lab" --port "$port" --subnet "$subnet" --no-delays >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
    token=$(cat "/var/lib/cluster-lab/$lab/token")
    ssh-keygen -q -t ed25519 -N '' -f "$work/key"
    key=$(api POST /v2/account/keys -d "$(jq -n --arg key "$(cat "$work/key.pub")" '{name: "bench", public_key: $key}')" |
        jq .ssh_key.id)
}
api() {
    curl -sS --fail-with-body -X "$1" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
        "http://127.0.0.1:$port$2" "${@:3}"
}

# COUNT bare hosts that have booted: pg1 the primary, the last one the witness, standbys between them. Writes
# hosts.jsonl, a line each, and known_hosts. Whoever logs in to every host waits for the first boot to end.
hosts() {
    local count=$1 number id role address private ids=()
    for number in $(seq "$count"); do
        ids+=("$(api POST /v2/droplets -d "{\"name\":\"pg$number\",\"region\":\"fra1\",\"size\":\"s-1vcpu-1gb\",
            \"image\":\"debian-12-x64\",\"ssh_keys\":[$key],\"tags\":[\"bench\"]}" | jq .droplet.id)")
    done
    : >"$work/hosts.jsonl"
    : >"$work/known_hosts"
    number=0
    for id in "${ids[@]}"; do
        number=$((number + 1)) role=standby address='' private=''
        if [ "$number" = 1 ]; then role=primary; elif [ "$number" = "$count" ]; then role=witness; fi
        await has_addresses "$id"
        read -r address private <<<"$found"
        # The first boot makes the key that the host keeps.
        await has_booted "$address"
        local host_key
        host_key=$(cut -d' ' -f1,2 "/var/lib/cluster-lab/$lab/droplets/$id/root/etc/ssh/ssh_host_ed25519_key.pub")
        echo "$address $host_key" >>"$work/known_hosts"
        jq -nc --arg name "pg$number" --argjson id "$number" --arg role "$role" --arg address "$address" \
            --arg private "$private" --arg key "$host_key" '$ARGS.named' >>"$work/hosts.jsonl"
    done
}
has_addresses() {
    found=$(api GET "/v2/droplets/$1" |
        jq -r '[.droplet.networks.v4[] | {(.type): .ip_address}] | add | "\(.public // "") \(.private // "")"')
    [ "$found" != ' ' ]
}
has_booted() {
    timeout 120 ssh -i "$work/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
        -o ConnectTimeout=5 "root@$1" cloud-init status --wait >/dev/null 2>&1
}
gone() {
    api DELETE '/v2/droplets?tag_name=bench'
    await no_hosts
    rm -rf "$CLUSTER_STATE_DIR"
}
no_hosts() { [ "$(api GET '/v2/droplets?tag_name=bench' | jq .meta.total)" = 0 ]; }
addresses() { jq -r .address "$work/hosts.jsonl"; }
ssh_options=(-i "$work/key" -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes
    -o UserKnownHostsFile="$work/known_hosts" -o LogLevel=ERROR)
# shellcheck disable=SC2029
on() { timeout 1800 ssh "${ssh_options[@]}" "root@$1" "${@:2}"; }
# Tries a command until it succeeds, for five minutes.
await() {
    local tries=0
    until "$@"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ]; then
            echo "$0: five minutes have passed without success: $*" >&2
            exit 1
        fi
        sleep 0.5
    done
}

# The hosts' inventory for `cluster`; what is on standard input comes below `postgresql`.
inventory() {
    printf 'cluster: bench\nprovider:\n  existing:\n    ssh_key: %s\npostgresql:\n  version: 15\n' "$work/key"
    cat
    echo 'nodes:'
    jq -r '"  - {name: \(.name), id: \(.id), role: \(.role), address: \(.address), connection_host: \(.private), host_key: \(.key)}"' \
        "$work/hosts.jsonl"
}

# How long a command takes, in seconds. Its output is shown if it fails.
seconds() {
    local began=$EPOCHREALTIME
    "$@" >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; return 1; }
    awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $began }"
}
# A command for every host at once, with the host's address as its last word.
everywhere() {
    local address pid pids=() failed=0
    while read -r address; do
        "$@" "$address" </dev/null &
        pids+=($!)
    done < <(addresses)
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return "$failed"
}

# What `up` does with apt, and nothing else: its own scripts, a connection each.
floor() {
    "$cluster" render "$work/scripts"
    everywhere apt_on
}
apt_on() {
    on "$1" "mkdir -p /etc/postgresql-common/createcluster.d &&
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/90-bench.conf"
    on "$1" sh -s <"$work/scripts/update-lists.sh"
    on "$1" sh -s postgresql-15 postgresql-15-repmgr sudo <"$work/scripts/install.sh"
}
median() {
    printf '%s\n' "$@" | sort -n |
        awk '{ v[NR] = $1 } END { if (NR) print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
