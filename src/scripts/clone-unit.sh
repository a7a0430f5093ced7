set -eu
# The clone itself. Only a directory that this program made and that was never started is deleted for it.
if [ -e "$data" ] && [ -n "$(postgres ls -A "$data")" ]; then
    belongs || die "$data is not this cluster's"
    case $(made) in
        cloning) ;;
        virgin) "$node" marked --system-identifier "$(identifier)" >/dev/null || die "$data does not match its marker" ;;
        *) die "$data holds data ($(made)) and is not deleted" ;;
    esac
fi
mark cloning
postgres rm -rf "$data"
# By the whole conninfo: it has the time-outs that notice a primary whose host is gone.
repmgr -d "$4" standby clone --fast-checkpoint
mark standby "$(identifier)"
