#!/usr/bin/env bash
# `cluster up` on three bare hosts that are up already, against the floor: the same hosts doing nothing but the same work
# with apt, in parallel. Usage: benches/up.sh [RUNS], as root. Prints seconds of each run, medians, and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
cluster=$PWD/target/release/cluster
lab=bench port=8499 subnet=10.96.0.0/16
work=$(mktemp -d)
export CLUSTER_STATE_DIR=$work/state CI=true
trap '$cluster lab stop --name $lab >/dev/null 2>&1; rm -rf "$work"' EXIT

$cluster lab start --name $lab --port $port --subnet $subnet --no-delays >/dev/null 2>&1
token=$(cat /var/lib/cluster-lab/$lab/token)
ssh-keygen -q -t ed25519 -N '' -f "$work/key"
api() {
    curl -sS --fail-with-body -X "$1" -H "Authorization: Bearer $token" -H 'Content-Type: application/json' \
        "http://127.0.0.1:$port$2" "${@:3}"
}
key=$(api POST /v2/account/keys -d "$(jq -n --arg key "$(cat "$work/key.pub")" '{name: "bench", public_key: $key}')" | jq .ssh_key.id)

# Three bare hosts that have booted; writes their inventory.
hosts() {
    local id name address private ids=()
    for name in pg1 pg2 pg3; do
        ids+=("$(api POST /v2/droplets -d "{\"name\":\"$name\",\"region\":\"fra1\",\"size\":\"s-1vcpu-1gb\",
            \"image\":\"debian-12-x64\",\"ssh_keys\":[$key],\"tags\":[\"bench\"]}" | jq .droplet.id)")
    done
    {
        printf 'cluster: bench\nprovider:\n  existing:\n    ssh_key: %s\npostgresql:\n  version: 15\nnodes:\n' "$work/key"
        local roles=(primary standby witness) index=0
        for id in "${ids[@]}"; do
            address='' private=''
            while [ -z "$address" ]; do
                sleep 0.5
                read -r address private < <(api GET "/v2/droplets/$id" |
                    jq -r '[.droplet.networks.v4[] | {(.type): .ip_address}] | add | "\(.public // "") \(.private // "")"')
            done
            until ssh -i "$work/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
                -o LogLevel=ERROR "root@$address" cloud-init status --wait >/dev/null 2>&1; do sleep 0.5; done
            printf '  - {name: pg%d, id: %d, role: %s, address: %s, connection_host: %s, host_key: %s}\n' $((index + 1)) \
                $((index + 1)) "${roles[index]}" "$address" "$private" \
                "$(cut -d' ' -f1,2 "/var/lib/cluster-lab/$lab/droplets/$id/root/etc/ssh/ssh_host_ed25519_key.pub")"
            echo "$address" >&3
            index=$((index + 1))
        done
    } >"$work/inventory.yaml" 3>"$work/addresses"
}
gone() {
    api DELETE '/v2/droplets?tag_name=bench'
    while [ "$(api GET '/v2/droplets?tag_name=bench' | jq .meta.total)" != 0 ]; do sleep 0.5; done
    rm -rf "$CLUSTER_STATE_DIR"
}
seconds() {
    local began=$EPOCHREALTIME
    "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    awk "BEGIN { printf \"%.2f\", $EPOCHREALTIME - $began }"
}
# What `up` does with apt, and nothing else: its own scripts, a connection each.
floor() {
    local address pids=()
    $cluster render "$work/scripts"
    while read -r address; do
        apt_on "$address" &
        pids+=($!)
    done <"$work/addresses"
    for pid in "${pids[@]}"; do wait "$pid"; done
}
apt_on() {
    local ssh=(ssh -i "$work/key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null
        -o LogLevel=ERROR "root@$1")
    "${ssh[@]}" "mkdir -p /etc/postgresql-common/createcluster.d &&
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/90-bench.conf"
    "${ssh[@]}" sh -s <"$work/scripts/update-lists.sh"
    "${ssh[@]}" sh -s postgresql-15 postgresql-15-repmgr sudo <"$work/scripts/install.sh"
}
median() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

floors=() fresh=() again=()
for run in $(seq "$runs"); do
    hosts
    floors+=("$(seconds floor)")
    gone
    hosts
    fresh+=("$(seconds "$cluster" up -i "$work/inventory.yaml")")
    again+=("$(seconds "$cluster" up -i "$work/inventory.yaml")")
    gone
    printf 'run %d: floor %s s, up %s s, again %s s\n' "$run" "${floors[-1]}" "${fresh[-1]}" "${again[-1]}"
done
f=$(median "${floors[@]}") u=$(median "${fresh[@]}") a=$(median "${again[@]}")
printf '\nmedians of %d runs: floor %s s, up %s s, again %s s\n' "$runs" "$f" "$u" "$a"
awk "BEGIN { printf \"up / floor = %.2f, again / floor = %.3f\n\", $u / $f, $a / $f }"
