#!/bin/sh
# Whose a place is. In front of scripts that run as root and come near what belongs to postgres: root does no work in a
# tree that somebody else can change, where a link would lead it anywhere.
#
# Prints root for a path of which nobody but root can change any part; a link in it is root's, too, and followed. Behind
# the first directory that is postgres' everything counts as postgres', and is worked on as postgres, wherever links
# lead. Anything else fails, with a reason. What does not exist is whose its directory is.
whose() (
    owner=$(whose_all "$1") || exit 1
    case $owner in
        root | postgres) printf '%s\n' "$owner" ;;
        *) exit 1 ;;
    esac
)
# The same for many paths: a line for each, root, postgres or nobody. What is asked of the disk is asked once; where that
# gives no clear answer, because a name is odd or something has just gone, each path is asked about by itself.
whose_each() (
    [ $# -gt 0 ] || exit 0
    if owners=$(whose_all "$@" 2>/dev/null); then
        printf '%s\n' "$owners"
        exit 0
    fi
    for path; do whose "$path" 2>/dev/null || echo nobody; done
)
# What both are made of. Names come from others: nothing but the three words is printed, and reasons go to standard error.
whose_all() (
    # The parts of each way first, by what the shell has built in; then all of them are looked at at once.
    counts='' asked=$# first=$1
    for path; do
        rest=$path way='' links=0 count=0
        while [ -n "$rest" ]; do
            part=${rest%%/*}
            case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
            case $part in
                '' | .) continue ;;
                ..)
                    way=${way%/*}
                    continue
                    ;;
            esac
            # Behind a directory of postgres', which is found below, this does not count.
            if [ "$links" -ge 40 ] || [ "$count" -ge 100 ]; then
                links=endless
                break
            fi
            if [ -L "$way/$part" ]; then
                links=$((links + 1))
                target=$(readlink "$way/$part")
                case $target in /*) way= ;; esac
                rest=$target/$rest
                continue
            fi
            [ -e "$way/$part" ] || break
            way=$way/$part count=$((count + 1))
            set -- "$@" "$way"
        done
        counts="$counts$count $links
"
    done
    shift "$asked"
    { [ $# -eq 0 ] || stat -c '%U %G %A %n' -- "$@" 2>/dev/null; } | {
        while read -r count links <&3; do
            owner=''
            while [ "$count" -gt 0 ]; do
                count=$((count - 1))
                # It was there a moment ago. Of several paths, none is answered for another.
                if ! read -r user group mode name || [ "$name" != "$1" ]; then
                    [ "$asked" -eq 1 ] || exit 1
                    if [ -z "$owner" ]; then
                        printf '%s: %s cannot be looked at\n' "$first" "$1" >&2
                        exit 1
                    fi
                    break
                fi
                shift
                [ -z "$owner" ] || continue
                case "$user $group $mode" in
                    "postgres "*) owner=postgres ;;
                    # A place like /tmp, where others may write.
                    *" "????????w?) owner=nobody ;;
                    "root "*" "?????-???? | "root root "*) ;;
                    # Like /var/log/postgresql.
                    "root postgres "*) owner=postgres ;;
                    *) owner=nobody ;;
                esac
                if [ "$owner" = nobody ]; then
                    printf '%s: not used, because users other than root and postgres can change %s (%s %s %s)\n' \
                        "$first" "$name" "$user" "$group" "$mode" >&2
                fi
            done
            if [ -z "$owner" ] && [ "$links" = endless ]; then
                owner=nobody
                printf '%s: too many symbolic links or directories\n' "$first" >&2
            fi
            printf '%s\n' "${owner:-root}"
        done
    } 3<<COUNTS
${counts%?}
COUNTS
)
# Runs a command as postgres, without a session that the journal would tell of.
postgres() { (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@" </dev/null); }
# Runs a command as the one whose a directory is: DIRECTORY COMMAND...
as_owner_of() {
    owner=$(whose "$1") || exit 1
    shift
    case $owner in
        root) "$@" </dev/null ;;
        *) postgres "$@" ;;
    esac
}
