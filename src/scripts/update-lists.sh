#!/bin/sh
# Fetches apt's lists, and waits for whoever else does. When that was is left where other tools look for it, too.
# $1 = pgdg or archive: the lists of the PostgreSQL project's repository, or of its archive of everything that it ever had, and
# nothing else. It becomes a source once they are there.
set -eu
export DEBIAN_FRONTEND=noninteractive

fetch() {
    tries=0
    while :; do
        status=0
        output=$(apt-get -q -o Acquire::Languages=none -o Acquire::Retries=3 -o APT::Update::Error-Mode=any "$@" update 2>&1) || status=$?
        case $output in
            *"Could not get lock"*)
                tries=$((tries + 1))
                if [ "$tries" -gt 150 ]; then break; fi
                printf 'progress\twaiting: %s\n' "$(printf '%s' "$output" | grep -m 1 'Could not get lock')"
                sleep 2
                ;;
            *) break ;;
        esac
    done
    printf '%s\n' "$output"
}

add() {
    scheme=https
    printf 'deb [signed-by=%s] %s://%s/pub/repos/apt %s main\n' "$key" "$scheme" "$2" "$3" >"$new"
    fetch -o APT::Get::List-Cleanup=0 -o Dir::Etc::SourceList="$new" -o Dir::Etc::SourceParts=/dev/null
    if [ "$status" = 0 ]; then
        chmod 644 "$new"
        mv "$new" "/etc/apt/sources.list.d/cluster-$1.list"
    fi
}

if [ $# -gt 0 ]; then
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    key=/usr/share/postgresql-common/pgdg/apt.postgresql.org.asc
    if [ ! -e "$key" ] || [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install postgresql-common ca-certificates
    fi
    if [ ! -e "$key" ]; then
        echo "postgresql-common of $codename lacks the signing key of the PostgreSQL apt repository ($key)" >&2
        exit 1
    fi
    # Beside the sources, for it is moved to them at once; apt reads nothing here but sources.list.
    new=$(mktemp /etc/apt/.cluster-XXXXXX.list)
    trap 'rm -f "$new"' EXIT
    which=$1
    if [ "$which" = pgdg ]; then
        add pgdg apt.postgresql.org "$codename-pgdg"
        case $status$output in
            0*) ;;
            # It has dropped a system that is past its end of life.
            *" 404 "*) which=archive ;;
        esac
    fi
    # What the archive says of itself: the same as the repository, with -archive behind the host's and the suite's names.
    if [ "$which" = archive ]; then add archive apt-archive.postgresql.org "$codename-pgdg-archive"; fi
else
    fetch
    if [ "$status" = 0 ]; then
        install -d /var/lib/apt/periodic
        touch /var/lib/apt/periodic/update-success-stamp
    fi
fi
exit "$status"
