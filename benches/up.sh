#!/usr/bin/env bash
# `cluster up` on three bare hosts that are up already, against the floor: the same hosts doing nothing but the same work
# with apt, in parallel. Usage: benches/up.sh [RUNS], as root. Prints seconds of each run, medians, and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-3}
# shellcheck disable=SC2034
lab=bench port=8499 subnet=10.96.0.0/16
# shellcheck source=benches/lib.sh
. benches/lib.sh

start_lab
floors=() fresh=() again=()
for run in $(seq "$runs"); do
    hosts 3
    floors+=("$(seconds floor)")
    gone
    hosts 3
    inventory </dev/null >"$work/inventory.yaml"
    fresh+=("$(seconds "$cluster" up -i "$work/inventory.yaml")")
    again+=("$(seconds "$cluster" up -i "$work/inventory.yaml")")
    gone
    printf 'run %d: floor %s s, up %s s, again %s s\n' "$run" "${floors[-1]}" "${fresh[-1]}" "${again[-1]}"
done
f=$(median "${floors[@]}") u=$(median "${fresh[@]}") a=$(median "${again[@]}")
printf '\nmedians of %d runs: floor %s s, up %s s, again %s s\n' "$runs" "$f" "$u" "$a"
awk "BEGIN { printf \"up / floor = %.2f, again / floor = %.3f\n\", $u / $f, $a / $f }"
