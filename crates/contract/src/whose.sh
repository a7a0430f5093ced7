#!/bin/sh
# Whose a place is. In front of scripts that run as root and come near what belongs to postgres: root does no work in a
# tree that somebody else can change, where a link would lead it anywhere.
#
# Prints root for a path of which nobody but root can change any part; a link in it is root's, too, and followed. Behind
# the first directory that is postgres' everything counts as postgres', and is worked on as postgres, wherever links
# lead. Anything else fails, with a reason. What does not exist is whose its directory is.
whose() (
    # The parts of the way first, by what the shell has built in; then all of them are looked at at once.
    rest=$1 path=$1 way='' links=0
    set --
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
        way=$way/$part
        set -- "$@" "$way"
    done
    { [ $# -eq 0 ] || stat -c '%U %G %A' -- "$@"; } | {
        while read -r user group mode; do
            case "$user $group $mode" in
                "postgres "*) echo postgres && exit 0 ;;
                # A place like /tmp, where others may write.
                *" "????????w?) ;;
                "root "*" "?????-???? | "root root "*) shift && continue ;;
                # Like /var/log/postgresql.
                "root postgres "*) echo postgres && exit 0 ;;
            esac
            echo "$path: not used, because users other than root and postgres can change $1 ($user $group $mode)" >&2
            exit 1
        done
        [ "$links" -le 40 ] || { echo "$path: too many symbolic links" >&2 && exit 1; }
        # It was there a moment ago.
        [ $# -eq 0 ] || { echo "$path: $1 cannot be looked at" >&2 && exit 1; }
        echo root
    }
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
