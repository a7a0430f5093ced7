set -eu
# Starts a new data directory for the first time, as primary or witness ($4).
as=$4
belongs || die "$data is not this cluster's"
case $(made) in
    virgin | "$as") ;;
    *) die "$data belongs to a $(made) and cannot start as a new $as" ;;
esac
mark "$as" "$(identifier)"
# The start check asks for a reason to start what is not a standby. This is one, for this start.
install -d -m 755 /run/cluster
touch /run/cluster/first-start
bring_up
identifier
