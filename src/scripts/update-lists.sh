#!/bin/sh
# Fetches apt's lists, and waits for whoever else does. When that was is left for the probe.
# $1 = pgdg or archive: the lists of the PostgreSQL project's repository, or of its archive of everything that it ever had, and
# nothing else. It becomes a source once they are there.
set -eu
export DEBIAN_FRONTEND=noninteractive
# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")

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

# Sources that could not be fetched, if all of them are somebody else's than the distribution's: what they have stays as it was.
only_others_failed() {
    printf '%s\n' "$output" | awk -v own="$codename" '
        /^Err:/ {
            failed = failed " " $2
            if ($3 == own || index($3, own "-") == 1 && $3 !~ /pgdg/) distribution = 1
            if ($3 ~ /^(stable|testing|unstable|sid|oldstable)/) distribution = 1
        }
        END { if (failed == "" || distribution) exit 1; print substr(failed, 2) }'
}

# The repository's key. Packages of before 246 have it in a script.
find_key() {
    directory=/usr/share/postgresql-common/pgdg
    key=$directory/apt.postgresql.org.asc
    if [ ! -e "$directory" ] || [ ! -e /etc/ssl/certs/ca-certificates.crt ]; then
        apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install postgresql-common ca-certificates
    fi
    if [ ! -e "$key" ] && grep -qs '^-----BEGIN PGP PUBLIC KEY BLOCK' "$directory/apt.postgresql.org.sh"; then
        key=/etc/apt/keyrings/cluster-pgdg.asc
        install -d -m 755 /etc/apt/keyrings
        sed -n '/^-----BEGIN PGP PUBLIC KEY BLOCK/,/^-----END PGP PUBLIC KEY BLOCK/p' "$directory/apt.postgresql.org.sh" >"$key"
        chmod 644 "$key"
    fi
    if [ ! -e "$key" ]; then
        echo "postgresql-common of $codename lacks the signing key of the PostgreSQL apt repository ($key)" >&2
        exit 1
    fi
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
    find_key
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
    if [ "$status" != 0 ] && others=$(only_others_failed); then
        printf 'progress\tgoing on without %s, which cannot be fetched\n' "$others"
        status=0
    fi
    if [ "$status" = 0 ]; then
        install -d -m 755 /run/cluster
        touch /run/cluster/lists-fetched
    fi
fi
exit "$status"
