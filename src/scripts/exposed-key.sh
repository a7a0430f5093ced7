# Says whether this host still shows the host key that its user data carried: every process on it can read that.
key=$(cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null)
if [ -n "$key" ] && grep -qsF "$key" /var/lib/cloud/instance/user-data.txt; then echo exposed; fi
