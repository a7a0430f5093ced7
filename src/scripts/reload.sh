set -eu
# PostgreSQL reads its configuration again. Returns when it has, where it can be asked; a server that answers no question
# is told all the same.
install -d -m 755 /run/cluster
if ! before=$(sql -d postgres -c 'select pg_conf_load_time()' 2>/run/cluster/reload-error); then
    cat /run/cluster/reload-error >&2
    systemctl reload "postgresql@$version-main"
    touch /run/cluster/postgresql.reloaded
    exit 0
fi
sql -d postgres -c 'select pg_reload_conf()' >/dev/null
tries=0
while [ "$(sql -d postgres -c 'select pg_conf_load_time()')" = "$before" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 50 ] || die "PostgreSQL did not reload its configuration"
    sleep 0.1
done
touch /run/cluster/postgresql.reloaded
