set -u
# Stops and disables what `cluster up` started: first what watches ($4 is services), then PostgreSQL. Data and packages
# stay. What was never there, or has ended, is as it should be: only what still runs in the end is a failure.
ended() {
    systemctl stop "$1" 2>/dev/null
    state=$(systemctl is-active "$1" 2>/dev/null)
    case $state in
        active | activating | reloading | deactivating)
            echo "$1 is still $state" >&2
            exit 1
            ;;
    esac
}
case $4 in
    services)
        systemctl -q disable cluster-backup.service cluster-node.service repmgrd.service 2>/dev/null
        ended cluster-backup.service
        ended repmgrd.service
        ended cluster-node.service
        # Made by the guard, and it outlives it.
        ended cluster-watch.service
        ;;
    postgresql)
        ended "postgresql@$version-main.service"
        # What lets this host do something elsewhere, or its users something here, goes; `up` writes it again.
        rm -f /etc/cluster/failover-token /etc/sudoers.d/cluster
        # What the guard holds in reserve goes, and what it has told PostgreSQL about a full disk.
        rm -f /run/cluster/full-disk.conf /var/lib/cluster/cluster-reserve
        (cd / && runuser -u postgres -- rm -f /var/lib/postgresql/cluster-reserve "/var/lib/postgresql/$version/cluster-reserve" \
            "/var/lib/postgresql/$version/main/pg_wal/cluster-reserve" 2>/dev/null) || :
        ;;
esac
