set -eu
# Clones the primary that the conninfo $4 leads to. The work (standard input) is a unit of its own, so that it goes on when the connection is
# lost, and the next run finds it.
unit="cluster-clone"
if ! systemctl -q is-active "$unit"; then
    install -d -m 755 /run/cluster
    cat >/run/cluster/clone.sh
    exec systemd-run -q --unit "$unit" --collect --wait --pipe sh /run/cluster/clone.sh "$@"
fi
echo "waiting for the clone that an earlier run started"
while systemctl -q is-active "$unit"; do sleep 1; done
[ "$(made)" = standby ] || die "the clone failed; see journalctl -u $unit"
