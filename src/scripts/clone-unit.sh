set -eu
# The clone itself. Only a directory that this program made and that was never started is deleted for it.
if [ -e "$data" ] && [ -n "$(postgres ls -A "$data")" ]; then
    belongs || die "$data is not this cluster's"
    case $(made) in
        cloning) ;;
        virgin) "$node" marked --system-identifier "$(identifier)" >/dev/null || die "$data does not match its marker" ;;
        *) die "$data holds data ($(made)) and is not deleted" ;;
    esac
fi
mark cloning
postgres rm -rf "$data"
# A clone that was cut off leaves what it has put into the primary's tablespaces. What is there is ours where it was empty
# before the first attempt: the guard's clones keep the same list.
vacated=/var/lib/cluster/vacated
locations=$(sql -d "$4" -c "select pg_tablespace_location(oid) from pg_tablespace where pg_tablespace_location(oid) <> ''")
printf '%s\n' "$locations" | while read -r place; do
    if [ -z "$place" ] || ! postgres test -d "$place"; then continue; fi
    if [ -z "$(postgres ls -A "$place")" ]; then
        grep -qxF "$place" "$vacated" 2>/dev/null || echo "$place" >>"$vacated"
        sync "$vacated"
    elif grep -qxF "$place" "$vacated" 2>/dev/null; then
        # shellcheck disable=SC2016
        postgres sh -c 'rm -rf "$1"/PG_"$2"_*' sh "$place" "$version"
    fi
done
# By the whole conninfo: it has the time-outs that notice a primary whose host is gone.
repmgr -d "$4" standby clone --fast-checkpoint
# What a guard was doing with data that is no more.
rm -f /var/lib/cluster/rewinding
mark standby "$(identifier)"
