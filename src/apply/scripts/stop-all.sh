set -u
# Stops and disables what `cluster up` started. Data and packages stay.
systemctl -q disable --now cluster-node.service repmgrd.service 2>/dev/null
systemctl stop "postgresql@$version-main.service"
