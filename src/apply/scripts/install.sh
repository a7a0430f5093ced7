#!/bin/sh
# Installs packages. A lock that somebody holds is waited for; apt says whose it is.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
dpkg --configure -a
# Without a sync after every file: there is one at the end, and a run that was cut off is finished by the next.
apt-get -q -y -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
    -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
    --no-install-recommends install "$@"
sync -f /usr
