#!/usr/bin/env bash
# `cluster up` against the floor, Ansible and pyinfra on the same bare hosts: a fresh run, a run with nothing to do, one changed
# setting. As root. Prints every figure, then a table of medians; target/bench/compare.jsonl has a line for each measurement.
#
#   HOSTS="3 6 12"    how many hosts: a primary, standbys, a witness
#   ROUNDS=5          runs of each tool with nothing to do and with one changed setting, in turn
#   FRESH=$ROUNDS     fresh runs of each tool, each on hosts of its own
#   TOOLS="floor cluster ansible pyinfra"
#
# Every tool reaches the same state, which `cluster plan --check` confirms after each fresh run and at the end. So all of them
# work on the same hosts in the rounds that follow.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra counts <<<"${HOSTS:-3 6 12}"
read -ra tools <<<"${TOOLS:-floor cluster ansible pyinfra}"
rounds=${ROUNDS:-5}
fresh=${FRESH:-$rounds}
for number in "${counts[@]}" "$rounds" "$fresh"; do
    case $number in
        '' | *[!0-9]* | 0) echo "$0: HOSTS, ROUNDS and FRESH are numbers above 0, not \`$number\`" >&2 && exit 2 ;;
    esac
done
for number in "${counts[@]}"; do
    if [ "$number" -lt 3 ]; then echo "$0: HOSTS has $number; there are at least 3" >&2 && exit 2; fi
done
# No run takes longer, in seconds.
limit=1800
# shellcheck disable=SC2034
lab=benchcmp port=8494 subnet=10.94.0.0/16
# shellcheck source=benches/lib.sh
. benches/lib.sh
program=$(realpath "${CLUSTER_NODE_PROGRAM:-$(dirname "$cluster")/cluster-node}")
results=target/bench/compare.jsonl
mkdir -p target/bench
: >"$results"
uses() { [[ " ${tools[*]} " == *" $1 "* ]]; }
for tool in "${tools[@]}"; do
    case $tool in
        floor | cluster) ;;
        ansible) [ -x target/ansible/bin/ansible-playbook ] || { echo "$0: run scripts/prerequisites.sh bench" >&2; exit 1; } ;;
        pyinfra) [ -x target/pyinfra/bin/pyinfra ] || { echo "$0: run scripts/prerequisites.sh bench" >&2; exit 1; } ;;
        *)
            echo "$0: TOOLS has $tool; known are floor, cluster, ansible and pyinfra" >&2
            exit 2
            ;;
    esac
done

# What the hosts are to be, for every tool: two inventories that differ in one setting, and for the others the files of both.
# On bare hosts: a plan shows what is missing there.
desire() {
    local variant
    for variant in 4 8; do
        inventory <<<"  settings: {work_mem: ${variant}MB}" >"$work/inventory-$variant.yaml"
        "$cluster" plan -i "$work/inventory-$variant.yaml" --json >"$work/plan.json" 2>"$work/log"
        jq -f benches/desired.jq --argjson version 15 --argjson port 5432 --arg program "$program" \
            --slurpfile state "$CLUSTER_STATE_DIR/bench/secrets.json" "$work/plan.json" >"$work/desired.json"
        rm -rf "$work/files-$variant"
        jq -r '.desired | .before_install as $first | .files | to_entries[] | .key as $node | ($first, .value[]) |
            "\($node)\(.path) \(.content | @base64)"' "$work/desired.json" | while read -r path content; do
            mkdir -p "$work/files-$variant/${path%/*}"
            base64 -d <<<"$content" >"$work/files-$variant/$path"
        done
        jq --arg files "$work/files-$variant" '. + {files: $files} | del(.desired.files[][].content)' "$work/desired.json" \
            >"$work/desired-$variant.json"
    done
    jq -s --arg key "$work/key" --arg known "$work/known_hosts" '
        def group($role): {hosts: (map(select(.role == $role) | {(.name): {
            ansible_host: .address, node_id: .id, role: .role, host: .private}}) | add)};
        {all: {
            vars: {ansible_user: "root", ansible_ssh_private_key_file: $key,
                ansible_ssh_common_args: "-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=\($known)"},
            children: {primary: group("primary"), standby: group("standby"), witness: group("witness")}}}' \
        "$work/hosts.jsonl" >"$work/hosts.json"
}
# Each reaches the state with work_mem = $1 MB.
run_cluster() { timeout "$limit" "$cluster" up -i "$work/inventory-$1.yaml"; }
run_ansible() {
    ANSIBLE_CONFIG=benches/ansible/ansible.cfg ANSIBLE_HOME=$work/ansible ANSIBLE_SSH_CONTROL_PATH_DIR=$work/kept \
        timeout "$limit" target/ansible/bin/ansible-playbook -i "$work/hosts.json" -e "@$work/desired-$1.json" \
        benches/ansible/site.yaml
}
run_pyinfra() {
    BENCH_HOSTS=$work/hosts.jsonl BENCH_DESIRED=$work/desired-$1.json BENCH_KEY=$work/key BENCH_KNOWN_HOSTS=$work/known_hosts \
        timeout "$limit" target/pyinfra/bin/pyinfra -y benches/pyinfra/inventory.py benches/pyinfra/site.py
}
# How many changes its own words tell, for a run that must have none, or some.
changes() {
    case $1 in
        cluster) sed -n -e 's/.*: nothing to do.*/0/p' -e 's/.*: \([0-9]*\) steps\? done.*/\1/p' "$work/log" ;;
        ansible) sed -n 's/.*changed=\([0-9]*\).*/\1/p' "$work/log" | awk '{ n += $1 } END { print n + 0 }' ;;
        pyinfra) awk '$1 == "Grand" && $2 == "total" { n = $4 + 0 } END { print n }' "$work/log" ;;
    esac
}

# measure HOSTS TOOL WHAT ROUND COMMAND...: writes the figure down.
measure() {
    local count=$1 tool=$2 what=$3 round=$4 took load
    shift 4
    load=$(cut -d' ' -f1 /proc/loadavg)
    took=$(seconds "$@") || { echo "$0: $tool failed ($what, $count hosts)" >&2; exit 1; }
    jq -nc --argjson hosts "$count" --arg tool "$tool" --arg what "$what" --argjson round "$round" --argjson seconds "$took" \
        --argjson load "$load" --arg at "$(date -u +%FT%TZ)" '$ARGS.named' | tee -a "$results" >/dev/null
    printf '%3d hosts  %-8s %-14s round %d  %8.2f s  (load before it %s)\n' "$count" "$tool" "$what" "$round" "$took" "$load"
}
expect() {
    local tool=$1 wanted=$2 seen
    seen=$(changes "$tool")
    case $wanted,${seen:-?} in
        none,0 | some,[1-9]*) ;;
        *)
            tail -n 60 "$work/log" >&2
            echo "$0: $tool tells ${seen:-no number of} changes, where there are $wanted" >&2
            exit 1
            ;;
    esac
}
as_described() {
    "$cluster" plan --check -i "$work/inventory-$1.yaml" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; echo "$0: the hosts are not as described" >&2; exit 1; }
}

# A connection to every host, at once: what no tool gets around.
new_connections() { everywhere on_new; }
on_new() { on "$1" true; }
kept_connections() { everywhere on_kept; }
on_kept() { ssh "${ssh_options[@]}" -o ControlPath="$work/kept-$1" "root@$1" true; }
keep_connection() { ssh "${ssh_options[@]}" -o ControlPath="$work/kept-$1" -o ControlPersist=600 -M -f -N "root@$1"; }

# SSH round trips of a run with nothing to do, as sshd counts them on all hosts: logins, and commands. With connections of its
# own: the sshd of one that was kept does not tell.
round_trips() {
    local from until seen='' last=''
    everywhere sshd_tells
    sleep 3
    from=$EPOCHREALTIME
    CLUSTER_SSH_KEEP_SECONDS=0 "$cluster" up -i "$1" >"$work/log" 2>&1
    grep -q 'nothing to do' "$work/log" || { cat "$work/log" >&2; return 1; }
    # The journal's times are those at which it was written, and a host that has much to do writes it late.
    sleep 10
    until=$EPOCHREALTIME
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        sleep 2
        seen=$(everywhere sshd_counts "$from" "$until" | awk '{ logins += $1; commands += $2 } END { print logins, commands }')
        if [ "$seen" = "$last" ]; then break; fi
        last=$seen
    done
    echo "$seen"
}
sshd_tells() { on "$1" 'echo "LogLevel VERBOSE" >/etc/ssh/sshd_config.d/bench.conf && systemctl reload ssh'; }
sshd_counts() {
    # By the name that sshd gives itself: of whom a line is, the journal finds out later, and not if that process has ended by then.
    on "$3" "journalctl -q -t sshd -t sshd-session -o cat --since @$1 --until @$2" |
        awk '/^Accepted publickey / { logins++ } /^Starting session: / { commands++ } END { print logins + 0, commands + 0 }'
}
# 40 settings that a reload applies.
forty() {
    cat <<'SETTINGS'
  settings: {work_mem: 4MB, maintenance_work_mem: 48MB, effective_cache_size: 1GB, random_page_cost: 1.5, seq_page_cost: 1.1,
    cpu_tuple_cost: 0.02, cpu_index_tuple_cost: 0.006, cpu_operator_cost: 0.003, default_statistics_target: 150,
    checkpoint_timeout: 6min, checkpoint_completion_target: 0.8, max_wal_size: 768MB, min_wal_size: 96MB, bgwriter_delay: 150ms,
    bgwriter_lru_maxpages: 120, bgwriter_lru_multiplier: 2.5, effective_io_concurrency: 2, maintenance_io_concurrency: 12,
    autovacuum_naptime: 50s, autovacuum_vacuum_threshold: 60, autovacuum_vacuum_scale_factor: 0.1,
    autovacuum_analyze_threshold: 60, autovacuum_analyze_scale_factor: 0.05, autovacuum_vacuum_cost_delay: 3ms,
    autovacuum_vacuum_cost_limit: 300, vacuum_cost_page_hit: 2, vacuum_cost_page_miss: 3, vacuum_cost_page_dirty: 21,
    vacuum_cost_limit: 250, log_min_duration_statement: 2s, log_lock_waits: 'on', log_checkpoints: 'on',
    log_autovacuum_min_duration: 1s, deadlock_timeout: 2s, geqo_threshold: 13, from_collapse_limit: 9, join_collapse_limit: 9,
    cursor_tuple_fraction: 0.2, temp_file_limit: 1GB, gin_fuzzy_search_limit: 1000}
SETTINGS
}

# Nothing to do and one changed setting, in turn, on hosts that are as described; leaves them so, with the first variant.
steady() {
    local count=$1 round tool now=4 other
    everywhere keep_connection
    for round in $(seq "$rounds"); do
        if uses floor; then
            measure "$count" floor "new connection" "$round" new_connections
            measure "$count" floor "kept connection" "$round" kept_connections
        fi
        for tool in "${tools[@]}"; do
            [ "$tool" != floor ] || continue
            measure "$count" "$tool" nothing "$round" "run_$tool" "$now"
            expect "$tool" none
            if [ "$tool" = cluster ]; then
                measure "$count" cluster status "$round" timeout "$limit" "$cluster" status -i "$work/inventory-$now.yaml"
            fi
        done
        for tool in "${tools[@]}"; do
            [ "$tool" != floor ] || continue
            other=$((12 - now))
            measure "$count" "$tool" setting "$round" "run_$tool" "$other"
            expect "$tool" some
            now=$other
        done
    done
    run_cluster 4 >"$work/log" 2>&1
}
# The same number whatever the inventory holds.
count_round_trips() {
    local count=$1 few many
    inventory </dev/null >"$work/inventory-0.yaml"
    forty | inventory >"$work/inventory-40.yaml"
    "$cluster" up -i "$work/inventory-0.yaml" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    few=$(round_trips "$work/inventory-0.yaml")
    "$cluster" up -i "$work/inventory-40.yaml" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    many=$(round_trips "$work/inventory-40.yaml")
    jq -nc --argjson hosts "$count" --arg none "$few" --arg forty "$many" '{hosts: $hosts, what: "round trips", $none, $forty}' >>"$results"
    printf '%3d hosts  cluster  nothing to do: SSH logins and commands on all hosts: %s without settings, %s with 40\n' "$count" "$few" "$many"
    case $few in
        0* | *' 0')
            echo "$0: no round trip was counted: sshd does not tell what it does" >&2
            exit 1
            ;;
    esac
    if [ "$few" != "$many" ]; then
        echo "$0: the number of SSH round trips grows with the settings" >&2
        exit 1
    fi
}

start_lab
for count in "${counts[@]}"; do
    # The hosts of the last one stay for the rounds.
    for round in $(seq "$fresh"); do
        for tool in "${tools[@]}"; do
            if [ "$round$tool" != "1${tools[0]}" ]; then gone; fi
            hosts "$count"
            desire
            if [ "$tool" = floor ]; then
                measure "$count" floor fresh "$round" floor
                continue
            fi
            measure "$count" "$tool" fresh "$round" "run_$tool" 4
            as_described 4
        done
    done
    if [ "${tools[-1]}" = floor ]; then run_cluster 4 >"$work/log" 2>&1; fi
    steady "$count"
    as_described 4
    if uses cluster; then count_round_trips "$count"; fi
    gone
done

jq -s -r '
    def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
    map(select(.seconds)) | group_by([.hosts, .what, .tool])
    | map({hosts: .[0].hosts, what: .[0].what, tool: .[0].tool, runs: length, median: (map(.seconds) | median),
        least: (map(.seconds) | min), most: (map(.seconds) | max), load: (map(.load) | max)})
    | . as $all | .[]
    | . as $row | ($all | map(select(.hosts == $row.hosts and .what == $row.what and .tool == "cluster")) | first) as $ours
    | [.hosts, .what, .tool, .runs, .median, .least, .most,
        (if $ours and $ours.median > 0 then (.median / $ours.median * 100 | round / 100) else "" end), .load] | @tsv' "$results" |
    { printf 'hosts\twhat\ttool\truns\tmedian\tleast\tmost\t/cluster\tload\n' && cat; } | column -t -s "$(printf '\t')"
