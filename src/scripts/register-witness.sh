set -eu
# Registers the witness with the primary at $4.
repmgr_database
repmgr witness register --force -h "$4"
