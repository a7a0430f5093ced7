set -eu
# Registers the primary.
repmgr_database
repmgr primary register --force
