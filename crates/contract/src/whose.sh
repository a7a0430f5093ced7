#!/bin/sh
# Whose a place is. In front of scripts that run as root and come near what belongs to postgres: root does no work in a
# tree that somebody else can change, where a link would lead it anywhere.
#
# Prints root for a path of which nobody but root can change any part; a link in it is root's, too, and followed. Behind
# the first directory that is postgres' everything counts as postgres', and is worked on as postgres, wherever links
# lead. Anything else fails, with a reason. What does not exist is whose its directory is.
whose() (
    owner=$(whose_each "$1")
    case $owner in
        'nobody '*) echo "$1: ${owner#nobody }" >&2 && exit 1 ;;
    esac
    echo "$owner"
)
# The same for many paths, with a line for each: root, postgres, or nobody and why. What is asked of the disk is asked once.
whose_each() (
    [ $# -gt 0 ] || exit 0
    # The parts of each way first, by what the shell has built in; then all of them are looked at at once.
    counts='' asked=$#
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
            if [ -L "$way/$part" ]; then
                links=$((links + 1))
                # Behind a directory of postgres', which is found below, this does not count.
                [ "$links" -le 40 ] || break
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
                # It was there a moment ago. From here on no answer can be told from another's.
                if ! read -r user group mode name || [ "$name" != "${1-}" ]; then
                    owner="nobody ${1-} cannot be looked at"
                    set --
                    break
                fi
                shift
                [ -z "$owner" ] || continue
                case "$user $group $mode" in
                    "postgres "*) owner=postgres ;;
                    # A place like /tmp, where others may write.
                    *" "????????w?) ;;
                    "root "*" "?????-???? | "root root "*) continue ;;
                    # Like /var/log/postgresql.
                    "root postgres "*) owner=postgres ;;
                esac
                owner=${owner:-nobody not used, because users other than root and postgres can change $name ($user $group $mode)}
            done
            if [ -z "$owner" ] && [ "$links" -gt 40 ]; then owner='nobody too many symbolic links'; fi
            echo "${owner:-root}"
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
