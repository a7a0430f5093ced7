set -eu
# Restarts PostgreSQL, with a checkpoint before it, so that it is short. From $4 on: settings that a standby must not have
# lower than its primary, each with pg_controldata's name for it.
shift 3
sql -d postgres -c checkpoint
install -d -m 755 /run/cluster
if [ -e "$data/standby.signal" ]; then
    # A standby does not start with less than its primary had. Where a value shrinks, the primary was restarted first;
    # the standby must have heard of it.
    for pair; do
        wanted=$(postgres "$bin/postgres" -C "${pair%:*}" -D "/etc/postgresql/$version/main")
        tries=0
        while [ "$(postgres "$bin/pg_controldata" -D "$data" | sed -n "s/^${pair#*:} setting: *//p")" -gt "$wanted" ]; do
            tries=$((tries + 1))
            [ "$tries" -le 300 ] || die "the primary still allows more ${pair%:*} than $wanted; a standby cannot start with less"
            sleep 0.1
        done
    done
elif [ "$(made)" != witness ]; then
    # The node that takes writes may go on taking them: its guard keeps the lease meanwhile. Where there is no guard
    # yet, this is still a new cluster.
    if systemctl -q is-active cluster-node; then /usr/local/bin/cluster-node restart; else touch /run/cluster/first-start; fi
fi
timeout 90 systemctl stop "postgresql@$version-main" || die "PostgreSQL has not stopped yet; it keeps trying"
bring_up
