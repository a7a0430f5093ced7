set -eu
# Fills a data directory from the repository and replays WAL; the arguments are those of the work (standard input).
case $6 in
    # A copy beside data in use gives way to the server there, and dies before it.
    beside)
        properties='-p Nice=10 -p IOSchedulingClass=best-effort -p IOSchedulingPriority=7 -p OOMScoreAdjust=500'
        ;;
esac
detached cluster-restore "$@"
case $6 in
    new) [ "$(made)" = primary ] || die "the restore failed; see journalctl -u cluster-restore" ;;
    beside)
        is_copy_of "$4" "$5" "${10}" ||
            die "what an earlier run began has ended and is no copy of that moment; run this again"
        ;;
esac
