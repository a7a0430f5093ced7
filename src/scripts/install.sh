#!/bin/sh
# Installs packages. A lock that somebody holds is waited for; apt says whose it is.
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
if [ -n "$(dpkg --audit)" ]; then
    tries=0
    until output=$(dpkg --configure -a 2>&1); do
        tries=$((tries + 1))
        case $output in
            *"locked by another process"*) [ "$tries" -le 300 ] && printf 'progress\twaiting: dpkg is running\n' && sleep 2 ;;
            *) tries=301 ;;
        esac
        if [ "$tries" -gt 300 ]; then
            printf '%s\n' "$output" >&2
            exit 1
        fi
    done
fi
# Ubuntu restarts what uses a library that was updated, on all nodes at the same hour. What these do is not restarted for that.
if [ -d /etc/needrestart/conf.d ]; then
    cat >/etc/needrestart/conf.d/90-cluster.conf <<'CONF'
# Written by `cluster up`.
$nrconf{override_rc}{qr(^(postgresql@|repmgrd|cluster-))} = 0;
CONF
fi
work=$(mktemp -d /run/cluster-install-XXXXXX)
trap 'rm -rf "$work"' EXIT
# Without a sync after every file: there is one at the end, and a run that was cut off is finished by the next.
get() {
    {
        apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
            -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
            --no-install-recommends install "$@" 2>&1 && echo 0 >"$work/status" || echo "$?" >"$work/status"
    } | tee "$work/output"
    read -r status <"$work/status"
}
get "$@"
if [ "$status" != 0 ] && grep -q ' 404 ' "$work/output"; then
    # Mirrors drop what has a newer version, and these lists are from before it.
    printf 'progress\tfetching the lists again: the mirror no longer has a package that they name\n'
    apt-get -q -o Acquire::Languages=none -o Acquire::Retries=3 update
    get "$@"
fi
sync -f /usr
exit "$status"
