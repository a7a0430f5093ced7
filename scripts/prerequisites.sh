#!/usr/bin/env bash
# Installs what this machine lacks of the Debian or Ubuntu packages that are needed: `tests`, or also `hosts` for the
# lab. Says nothing when nothing is missing.
set -euo pipefail

declare -A programs=([gcc]=gcc [make]=make [git]=git [ssh]=openssh-client [ssh-keygen]=openssh-client [psql]=postgresql-client)
if [ "${1:-tests}" = hosts ]; then
    programs+=([systemd-nspawn]=systemd-container [mmdebstrap]=mmdebstrap [nft]=nftables [conntrack]=conntrack
        [ip]=iproute2 [jq]=jq [curl]=curl [shellcheck]=shellcheck [npm]=npm [openssl]=openssl)
fi
missing=()
for program in "${!programs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${programs[$program]}")
done
# What gcc links with, which it merely recommends.
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
if ! command -v cargo >/dev/null; then
    echo "Rust is missing: see https://rustup.rs" >&2
    exit 1
fi
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "as root: apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
