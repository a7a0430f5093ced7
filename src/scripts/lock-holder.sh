# Prints who holds the cluster's lock on this host; nothing if nobody does.
lock=/run/cluster-operator.lock
if [ -s "$lock" ] && ! flock -s -n "$lock" true; then head -c 1000 "$lock" | tr -d '\n\t'; fi
