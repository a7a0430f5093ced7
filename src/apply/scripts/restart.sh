set -eu
# Restarts PostgreSQL, with a checkpoint before it, so that it is short.
sql -d postgres -c checkpoint
install -d -m 755 /run/cluster
# The node that takes writes may go on taking them: its guard keeps the lease meanwhile. Where there is no guard yet,
# this is still a new cluster.
if [ ! -e "$data/standby.signal" ] && [ "$(made)" != witness ]; then
    if systemctl -q is-active cluster-node; then /usr/local/bin/cluster-node restart; else touch /run/cluster/first-start; fi
fi
systemctl restart "postgresql@$version-main"
ready
