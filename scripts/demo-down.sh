#!/usr/bin/env bash
# Takes away everything that `make demo` made, but the packages that it installed and the build.
set -euo pipefail
cd "$(dirname "$0")/.."
cluster=target/release/cluster
if [ ! -x $cluster ]; then
    echo "nothing was built here, so that there is nothing to take away" >&2
    exit 0
fi
if [ -e /var/lib/cluster-lab/lab/token ]; then
    $cluster down -i inventories/lab.yaml --yes || echo "the cluster is deleted with its lab"
fi
$cluster lab stop --purge
rm -rf "${CLUSTER_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/cluster}/demo"
