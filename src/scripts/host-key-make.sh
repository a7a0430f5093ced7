#!/bin/sh
# Makes the host's next SSH key, and prints its public half.
set -eu
next=/etc/ssh/cluster_next_host_ed25519_key
if [ ! -s "$next.pub" ]; then
    rm -f "$next" "$next.pub"
    ssh-keygen -q -t ed25519 -N '' -C "root@$(hostname)" -f "$next"
fi
cut -d' ' -f1,2 "$next.pub"
