#!/usr/bin/env bash
# Installs what this machine lacks: Debian or Ubuntu packages, and ansible-core below target/ansible, for `tests`; or
# packages alone, also those of the lab, for `hosts`; or all of that, and pyinfra below target/pyinfra, for `bench`. Says
# nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-tests}
declare -A programs=([gcc]=gcc [make]=make [git]=git [ssh]=openssh-client [ssh-keygen]=openssh-client [psql]=postgresql-client)
if [ "$kind" != tests ]; then
    programs+=([systemd-nspawn]=systemd-container [mmdebstrap]=mmdebstrap [nft]=nftables [conntrack]=conntrack
        [ip]=iproute2 [jq]=jq [curl]=curl [shellcheck]=shellcheck [npm]=npm [openssl]=openssl)
fi
missing=()
for program in "${!programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${programs[$program]}")
done
# What gcc links with, which it merely recommends.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
if [ "$kind" != hosts ]; then
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
fi
if ! command -v cargo >/dev/null; then
    echo "Rust is missing: see https://rustup.rs" >&2
    exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
fi
# NAME PACKAGE LIST: installs what LIST pins below target/NAME. The copy of the list is written last: an installation that was
# killed begins again.
below_target() {
    if cmp -s "$3" "target/$1/requirements.txt"; then return; fi
    echo "installing $2 below target/$1"
    rm -rf "target/$1"
    mkdir -p target
    python3 -m venv "target/$1"
    "target/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$3"
    cp "$3" "target/$1/requirements.txt"
}
if [ "$kind" != hosts ]; then below_target ansible ansible-core tests/python-requirements.txt; fi
if [ "$kind" = bench ]; then below_target pyinfra pyinfra benches/pyinfra/requirements.txt; fi
