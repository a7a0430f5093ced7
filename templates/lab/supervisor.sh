# Holds one droplet until it is off: boots it, and boots it again when it reboots itself (with --keep-unit,
# systemd-nspawn says so by its exit code 133). A droplet that is off has no network.
# Arguments: the control group's cgroup.procs, the namespace, then systemd-nspawn's own.
set -u
echo $$ > "$1" || exit 1
namespace=$2
shift 2
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
while :; do
    systemd-nspawn --network-namespace-path="/run/netns/$namespace" "$@"
    [ $? -eq 133 ] || break
done
ip netns delete "$namespace"
