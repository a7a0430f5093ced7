#!/bin/sh
# Installs packages. A lock that somebody holds is waited for; apt says whose it is.
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
if [ -n "$(dpkg --audit)" ]; then
    tries=0
    until output=$(dpkg --configure -a 2>&1); do
        tries=$((tries + 1))
        case $output in
            *"lock was locked by another process"*) [ "$tries" -le 300 ] && printf 'progress\twaiting: dpkg is running\n' && sleep 2 ;;
            *) tries=301 ;;
        esac
        if [ "$tries" -gt 300 ]; then
            printf '%s\n' "$output" >&2
            exit 1
        fi
    done
fi
# Without a sync after every file: there is one at the end, and a run that was cut off is finished by the next.
apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
    --no-install-recommends install "$@"
sync -f /usr
