#!/bin/sh
# Adds the PostgreSQL project's apt repository ($1 = pgdg) or its archive of old versions ($1 = archive).
set -eu
export DEBIAN_FRONTEND=noninteractive
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
key=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc
if [ ! -e "$key" ]; then
    apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install postgresql-common ca-certificates
fi
if [ ! -e "$key" ]; then
    echo "postgresql-common of $codename lacks the signing key of the PostgreSQL apt repository ($key)" >&2
    exit 1
fi
case $1 in
    pgdg) host=apt.postgresql.org/pub/repos/apt ;;
    archive) host=apt-archive.postgresql.org/pub/repos/apt ;;
    *) exit 2 ;;
esac
scheme=https
printf 'deb [signed-by=%s] %s://%s %s-pgdg main\n' "$key" "$scheme" "$host" "$codename" >"/etc/apt/sources.list.d/cluster-$1.list"
apt-get -q -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any update || {
    status=$?
    rm -f "/etc/apt/sources.list.d/cluster-$1.list"
    exit "$status"
}
