#!/bin/sh
# Whose a place is. In front of scripts that run as root and come near what belongs to postgres: root does no work in a
# tree that somebody else can change, where a link would lead it anywhere.
#
# Prints root for a path of which nobody but root can change any part; a link in it is root's, too, and followed. Behind
# the first directory that is postgres' everything counts as postgres', and is worked on as postgres, wherever links
# lead. Anything else fails, with a reason. What does not exist is whose its directory is.
whose() (
    rest=$1 way='' links=0
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
            [ "$links" -le 40 ] || { echo "$1: too many symbolic links" >&2 && exit 1; }
            target=$(readlink "$way/$part")
            case $target in /*) way= ;; esac
            rest=$target/$rest
            continue
        fi
        [ -e "$way/$part" ] || break
        way=$way/$part
        facts=$(stat -c '%U %G %A' "$way")
        case $facts in
            "postgres "*) echo postgres && exit 0 ;;
            # A place like /tmp, where others may write.
            *" "????????w?) ;;
            "root "*" "?????-???? | "root root "*) continue ;;
            # Like /var/log/postgresql.
            "root postgres "*) echo postgres && exit 0 ;;
        esac
        echo "$1: not used, because users other than root and postgres can change $way ($facts)" >&2
        exit 1
    done
    echo root
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
