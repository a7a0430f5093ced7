set -eu
# Fills the new data directory from the repository and replays WAL: $4 is latest, time or lsn, $5 the time or position.
# The work (standard input) is a unit of its own, so that it goes on when the connection is lost, and the next run finds
# it.
unit="cluster-restore"
if ! systemctl -q is-active "$unit"; then
    install -d -m 755 /run/cluster
    cat >/run/cluster/restore.sh
    exec systemd-run -q --unit "$unit" --collect --wait --pipe sh /run/cluster/restore.sh "$@"
fi
echo "waiting for the restore that an earlier run started"
while systemctl -q is-active "$unit"; do sleep 1; done
[ "$(made)" = primary ] || die "the restore failed; see journalctl -u $unit"
