# Holds the cluster's lock on this host for as long as somebody asks for it: HOLDER. Every byte of standard input is
# answered by a line. Ends, and lets go, at the end of its input, and when it hears nothing for half a minute.
set -u
umask 077
lock=/run/cluster-operator.lock
# One that is not ours any more has another inode.
inode() { stat -L -c %i "$1" 2>/dev/null; }
while :; do
    exec 9>>"$lock"
    # A look at it holds it for a moment, too.
    if ! flock -w 1 9; then
        printf 'cluster-busy\t%s\t%s\n' "$(($(date +%s) - $(stat -c %Y "$lock")))" "$(head -c 1000 "$lock" | tr -d '\n\t')"
        exit 0
    fi
    ours=$(inode /dev/fd/9)
    if [ "$(inode "$lock")" = "$ours" ]; then break; fi
done
printf '%s\n' "$1" >"$lock"
echo cluster-held
while beat=$(timeout 30 dd bs=1 count=1 2>/dev/null 9>&-) && [ -n "$beat" ]; do
    if [ "$(inode "$lock")" != "$ours" ]; then
        printf 'cluster-taken\t%s\n' "$(head -c 1000 "$lock" 2>/dev/null | tr -d '\n\t')"
        exit 0
    fi
    touch "$lock"
    echo cluster-held
done
if [ "$(inode "$lock")" = "$ours" ]; then : >"$lock"; fi
