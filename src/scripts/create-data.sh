set -eu
# Makes a new, empty data directory. What is there and was not begun by this is left alone.
config=/etc/postgresql/$version/main
if [ -e "$data" ] && [ -n "$(postgres ls -A "$data")" ]; then
    if ! belongs || [ "$(made)" != creating ]; then die "$data is not empty and was not created by a run of this cluster"; fi
    postgres rm -rf "$data"
fi
mark creating
if [ -e "$config" ]; then as_owner_of "${config%/*}" mv -T "$config" "$config.before-$(date +%Y%m%d-%H%M%S)"; fi
# A disk that was mounted there is root's. What postgres could put in its place is a link, which is not followed.
above=${data%/*}
if [ -d "$above" ] && [ ! -L "$above" ] && [ "$(stat -c %U "$above")" = root ]; then
    chown -h postgres:postgres "$above"
fi
# As postgres, to whom all of it belongs. The log that it begins is left to the first start, which knows its group.
postgres pg_createcluster "$version" main --port "$port" --locale C.UTF-8 --encoding UTF8 --start-conf manual -- \
    --data-checksums --auth-local peer --auth-host scram-sha-256
postgres find /var/log/postgresql -maxdepth 1 -name "postgresql-$version-main.log" -size 0 -delete
# What a guard was doing with data that is no more.
rm -f /var/lib/cluster/rewinding
mark virgin "$(identifier)"
# A guard that finds no memory must take it for lost, and grants nothing for the time of a lease. In a new cluster ($4)
# there is none to lose.
if [ "$4" = first ]; then "$node" new-cluster; fi
