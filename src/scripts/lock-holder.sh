# Prints for how many seconds the one who holds the cluster's lock on this host has not been heard of, and who that is;
# nothing if nobody holds it.
lock=/run/cluster-operator.lock
if [ -s "$lock" ] && ! flock -s -n "$lock" true; then
    printf '%s\t%s\n' "$(($(date +%s) - $(stat -c %Y "$lock")))" "$(head -c 1000 "$lock" | tr -d '\n\t')"
fi
