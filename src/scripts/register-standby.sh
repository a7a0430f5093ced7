set -eu
# Registers a standby, and waits until its row has come back by replication.
repmgr standby register --force --wait-sync=30
