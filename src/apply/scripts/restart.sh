set -eu
# Restarts PostgreSQL, with a checkpoint before it, so that it is short.
sql -d postgres -c checkpoint
install -d -m 755 /run/cluster
# The node that takes writes may go on taking them.
if [ ! -e "$data/standby.signal" ]; then touch /run/cluster/first-start; fi
systemctl restart "postgresql@$version-main"
ready
