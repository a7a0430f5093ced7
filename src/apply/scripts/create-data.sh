set -eu
# Makes a new, empty data directory. What is there and was not begun by this is left alone.
config=/etc/postgresql/$version/main
if [ -e "$data" ] && [ -n "$(ls -A "$data")" ]; then
    if ! belongs || [ "$(made)" != creating ]; then die "$data is not empty, and no run of this cluster began it"; fi
    rm -rf "$data"
fi
mark creating
if [ -e "$config" ]; then mv "$config" "$config.before-$(date +%Y%m%d-%H%M%S)"; fi
pg_createcluster "$version" main --port "$port" --locale C.UTF-8 --encoding UTF8 --start-conf manual -- \
    --data-checksums --auth-local peer --auth-host scram-sha-256
mark virgin "$(identifier)"
