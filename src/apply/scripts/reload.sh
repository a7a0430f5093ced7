set -eu
# PostgreSQL reads its configuration again. Returns when it has.
before=$(sql -d postgres -c 'select pg_conf_load_time()')
sql -d postgres -c 'select pg_reload_conf()' >/dev/null
tries=0
while [ "$(sql -d postgres -c 'select pg_conf_load_time()')" = "$before" ]; do
    tries=$((tries + 1))
    [ "$tries" -le 50 ] || die "PostgreSQL does not read its configuration"
    sleep 0.1
done
