set -eu
# Writes files. Standard input has a line for each: path, mode, owner and the content in base64. What lies below a
# directory of postgres' is written by postgres, so that a link there leads nowhere that is not postgres' anyway.
umask 077
units=
# $1 is the path, $2 its mode, $3 its owner if that is not who writes; standard input is the content.
write=$(cat <<'SCRIPT'
set -eu
umask 077
directory=${1%/*}
[ -d "$directory" ] || install -d -m 755 "$directory"
temporary=$(mktemp "$directory/.cluster-XXXXXXXXXX")
trap 'rm -f "$temporary"' EXIT
base64 -d >"$temporary"
case $1 in /etc/sudoers.d/*) visudo -cqf "$temporary" ;; esac
if [ -n "$3" ]; then chown "$3" "$temporary"; fi
chmod "$2" "$temporary"
mv -fT "$temporary" "$1"
SCRIPT
)
while read -r path mode owner content; do
    whose=$(whose "${path%/*}") || exit 1
    case $path in /etc/systemd/system/*) units=changed ;; esac
    case $whose,$owner in
        root,*) printf '%s' "$content" | sh -c "$write" sh "$path" "$mode" "$owner" ;;
        postgres,postgres:postgres) printf '%s' "$content" | (cd / && runuser -u postgres -- sh -c "$write" sh "$path" "$mode" '') ;;
        *)
            echo "$path would belong to $owner, but postgres can change its directory" >&2
            exit 1
            ;;
    esac
done
if [ -n "$units" ]; then systemctl daemon-reload; fi
