#!/usr/bin/env bash
# Makes packages of a PostgreSQL that a Debian does not have, as the PostgreSQL project makes its own: Debian's newest packaging,
# built in the older system. SUITE VERSION; prints the directory that holds them. It is kept beside the lab's images, and the next
# call just prints it. Needs root, mmdebstrap, and a mirror with Debian's sources; about ten minutes on two cores.
set -euo pipefail

# On standard output comes nothing but the result.
exec 3>&1 >&2
fail() {
    printf 'rebuild.sh: %s\n' "$1"
    exit 1
}

# The rest of the way, in the older system.
inside() {
    local version=$1 suite=$2 number
    # shellcheck source=/dev/null
    number=$(. /etc/os-release && echo "$VERSION_ID")
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    export DEB_BUILD_PROFILES='nocheck nodoc pkg.postgresql.nollvm'
    DEB_BUILD_OPTIONS="nocheck nodoc noautodbgsym parallel=$(nproc)"
    export DEB_BUILD_OPTIONS
    local get=(apt-get -q -y -o APT::Sandbox::User=root --no-install-recommends)
    local packages=/packages
    mkdir /build "$packages"
    cd /build

    # Sources come before the first minute of compiling. What is Debian's own work throughout is one archive, and repmgr's
    # packaging is below: the descriptions of both are not needed, and not every mirror has them.
    local lacks='cannot be fetched from this Debian mirror, which may not have all sources: try another'
    fetch() { "${get[@]}" source --download-only "$@"; }
    fetch --tar-only postgresql-common || fail "the source of postgresql-common $lacks"
    fetch --tar-only repmgr || fail "the source of repmgr $lacks"
    fetch "postgresql-$version" || fail "the source of PostgreSQL $version $lacks"
    # It is the same for all of Debian.
    (cd "$packages" && "${get[@]}" download repmgr-common/sid) || fail "repmgr-common $lacks"
    # Bookworm's is too old for what bookworm does not have. Clusters can be made without it.
    local backs_up=
    if [ "$suite" = bookworm ] && fetch pgbackrest; then backs_up=yes; fi
    mkdir postgresql-common repmgr
    tar --extract --strip-components=1 --directory=postgresql-common --file "$(ls postgresql-common_*.tar.*)"
    tar --extract --strip-components=1 --directory=repmgr --file "$(ls repmgr_*.orig.tar.*)"
    dpkg-source --no-check --extract "postgresql-${version}_"*.dsc postgresql

    # The tree's packages, numbered as the project numbers them.
    build() {
        (
            cd "$1"
            sed -i "1s/(\(.*\)) [^;]*;/(\1.pgdg$number+1) $suite-pgdg;/" debian/changelog
            "${get[@]}" build-dep .
            dpkg-buildpackage --build=binary --no-sign
        )
        mv ./*.deb "$packages"
    }
    build postgresql-common
    "${get[@]}" install "$packages"/postgresql-{common,client-common,common-dev}_*.deb
    build postgresql
    "${get[@]}" install "$packages"/{libpq5,libpq-dev,"postgresql-client-$version","postgresql-server-dev-$version"}_*.deb
    repmgr_packaging "$version" "$(ls repmgr_*.orig.tar.*)"
    build repmgr
    if [ -n "$backs_up" ]; then
        dpkg-source --no-check --extract pgbackrest_*.dsc pgbackrest
        build pgbackrest
    fi
}

# Debian's own is there as a whole or not at all, and a newer Debian's builds for that one's PostgreSQL.
repmgr_packaging() {
    local version=$1 upstream=${2#repmgr_}
    mkdir -p repmgr/debian/source
    echo '3.0 (quilt)' >repmgr/debian/source/format
    cat >repmgr/debian/changelog <<CHANGELOG
repmgr (${upstream%.orig.*}-9) unstable; urgency=medium

  * For one PostgreSQL.

 -- Test <test@localhost>  Thu, 01 Jan 2026 00:00:00 +0000
CHANGELOG
    cat >repmgr/debian/control <<CONTROL
Source: repmgr
Section: database
Priority: optional
Maintainer: Test <test@localhost>
Build-Depends: debhelper-compat (= 13), flex, libcurl4-openssl-dev, libjson-c-dev, libkrb5-dev, liblz4-dev, libnuma-dev, libpam0g-dev,
 libreadline-dev, libselinux1-dev, libssl-dev, libxml2-dev, libxslt1-dev, libzstd-dev, postgresql-server-dev-$version, zlib1g-dev
Standards-Version: 4.7.0
Rules-Requires-Root: no

Package: postgresql-$version-repmgr
Architecture: any
Depends: postgresql-$version, repmgr-common, \${misc:Depends}, \${shlibs:Depends}
Description: replication manager for PostgreSQL $version
 What a test makes of it.
CONTROL
    cat >repmgr/debian/rules <<RULES
#!/usr/bin/make -f
%:
	dh \$@

override_dh_auto_configure:
	./configure PG_CONFIG=/usr/lib/postgresql/$version/bin/pg_config

override_dh_auto_build:
	dh_auto_build -- PG_LDFLAGS='-lcurl -ljson-c -L/usr/lib/postgresql/$version/lib'
RULES
    chmod +x repmgr/debian/rules
}

if [ "${1:-}" = inside ]; then
    inside "$2" "$3"
    exit
fi

[ $# = 2 ] || fail 'usage: rebuild.sh SUITE VERSION'
[ "$(id -u)" = 0 ] || fail 'it needs root'
suite=$1 version=$2
case $suite in
    bookworm | trixie) ;;
    *) fail "nothing newer to build for $suite from is known" ;;
esac
own=$(realpath "$0")
# Another recipe makes other packages.
home=/var/cache/cluster-lab/postgresql-$version-on-$suite-$(sha256sum "$own" | cut -c 1-8)
mkdir -p "$home"
exec 4<"$home"
flock 4
if [ ! -e "$home/packages" ]; then
    # What a killed run left.
    rm -rf "$home/building"
    mkdir -p "$home/building/packages"
    log=$home/building/log
    # The mirrors of this machine's own apt, as for the lab's images, or mmdebstrap's default.
    mirror() {
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' 2>/dev/null |
            awk -v of="$1" '$2 == "Debian" && $3 == of && /^http/ { print $1; exit }'
    }
    archive=$(mirror Debian) security=$(mirror Debian-Security)
    sources=()
    if [ -n "$archive" ] && [ -n "$security" ]; then
        sources=("deb $archive $suite main" "deb $archive $suite-updates main" "deb $security $suite-security main")
    fi
    # shellcheck disable=SC2016
    hooks=(
        # Sources of every newer Debian; of its packages, what is asked for by name.
        '--customize-hook=archive=$(sed -n "s/^deb \(\[.*\] \)\?\([^ ]*\) '"$suite"' main.*/\2/p" "$1/etc/apt/sources.list" | head -n 1)
            { echo "deb-src $archive trixie main"
              echo "deb-src [check-valid-until=no] $archive sid main"
              echo "deb [check-valid-until=no] $archive sid main"; } >"$1/etc/apt/sources.list.d/newer.list"
            printf "Package: *\nPin: release n=sid\nPin-Priority: -1\n" >"$1/etc/apt/preferences.d/newer"'
        "--customize-hook=copy-in '$own' /root"
        '--customize-hook=chroot "$1" apt-get -q -o APT::Sandbox::User=root -o Acquire::Languages=none update'
        "--customize-hook=chroot \"\$1\" bash /root/${own##*/} inside $version $suite"
        "--customize-hook=sync-out /packages '$home/building/packages'"
    )
    # In namespaces of its own: if this is killed, no process and no mount of it is left.
    made=0
    printf '%s\n' "${sources[@]}" | TMPDIR=$home/building nice -n 15 unshare --mount --pid --fork --kill-child --mount-proc \
        mmdebstrap --mode=root --variant=buildd --format=null "${hooks[@]}" "$suite" /dev/null ${sources:+-} >"$log" 2>&1 || made=$?
    if [ "$made" != 0 ]; then
        grep '^rebuild.sh: ' "$log" || tail -n 25 "$log"
        fail "PostgreSQL $version cannot be built for $suite: see $log"
    fi
    mv "$home/building/packages" "$home/packages"
    rm -r "$home/building"
fi
echo "$home/packages" >&3
