set -u
# Stops and disables what `cluster up` started: first what watches ($4 is services), then PostgreSQL. Data and packages
# stay.
case $4 in
    services)
        systemctl -q disable --now cluster-node.service repmgrd.service 2>/dev/null
        # Made by the guard, and it outlives it.
        systemctl stop cluster-watch.service 2>/dev/null
        ;;
    postgresql)
        # What lets this host do something elsewhere, or its users something here, goes; `up` writes it again.
        systemctl stop "postgresql@$version-main.service" && rm -f /etc/cluster/failover-token /etc/sudoers.d/cluster
        ;;
esac
