#!/usr/bin/env bash
# Installs what this machine lacks: Debian or Ubuntu packages, and ansible-core below target/ansible, for `tests`; or
# packages alone, also those of the lab, for `hosts`. Says nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-tests}
declare -A programs=([gcc]=gcc [make]=make [git]=git [ssh]=openssh-client [ssh-keygen]=openssh-client [psql]=postgresql-client)
if [ "$kind" = hosts ]; then
    programs+=([systemd-nspawn]=systemd-container [mmdebstrap]=mmdebstrap [nft]=nftables [conntrack]=conntrack
        [ip]=iproute2 [jq]=jq [curl]=curl [shellcheck]=shellcheck [npm]=npm [openssl]=openssl)
fi
missing=()
for program in "${!programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${programs[$program]}")
done
# What gcc links with, which it merely recommends.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
if [ "$kind" = tests ]; then
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
# The copy of the list is written last: an installation that was killed begins again.
if [ "$kind" = tests ] && ! cmp -s tests/python-requirements.txt target/ansible/requirements.txt; then
    echo "installing ansible-core below target/ansible"
    rm -rf target/ansible
    mkdir -p target
    python3 -m venv target/ansible
    target/ansible/bin/pip install --quiet --disable-pip-version-check --requirement tests/python-requirements.txt
    cp tests/python-requirements.txt target/ansible/requirements.txt
fi
