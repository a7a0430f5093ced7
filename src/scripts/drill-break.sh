set -eu
# One fault of `cluster drill`. Whatever does not mend itself is mended by a timer after $5 seconds, even if nobody ever
# comes back; the timer is there before the fault. $6 and $7 are the API's host and port.
fault=$4 seconds=$5
unit=postgresql@$version-main.service
# What undoes it comes after it, whoever was interrupted meanwhile.
exec 9>/run/cluster-drill.lock
flock -w 15 9 || die "another drill is breaking or mending something on this host"
mend_by_itself() {
    systemctl stop cluster-drill-mend.timer 2>/dev/null || :
    systemd-run -q --collect --unit=cluster-drill-mend --on-active="$seconds" --timer-property=AccuracySec=1s sh -c "$1"
}
case $fault in
crash)
    # systemd knows the process; what a file in the data directory says is anybody's who is postgres.
    systemctl kill -s KILL --kill-who=main "$unit"
    ;;
freeze)
    mend_by_itself "systemctl kill -s CONT $unit"
    systemctl kill -s STOP "$unit"
    ;;
isolate)
    # client address, client port, this host's address, this host's port
    # shellcheck disable=SC2086
    set -- ${SSH_CONNECTION:?}
    case $1 in
        *:*) family=ip6 neighbours='meta l4proto ipv6-icmp accept' ;;
        *) family=ip neighbours='' ;;
    esac
    mend_by_itself 'nft delete table inet cluster_drill'
    nft -f - <<RULES
table inet cluster_drill {
    chain input {
        type filter hook input priority -200; policy accept;
        iif lo accept
        $family saddr $1 tcp dport $4 accept
        $neighbours
        drop
    }
    chain output {
        type filter hook output priority -200; policy accept;
        oif lo accept
        $family daddr $1 tcp sport $4 accept
        $neighbours
        drop
    }
}
RULES
    ;;
api)
    rules=
    for address in $(getent ahosts "$6" | awk '{ print $1 }' | sort -u); do
        case $address in
            *:*) rules="$rules ip6 daddr $address tcp dport $7 drop;" ;;
            *) rules="$rules ip daddr $address tcp dport $7 drop;" ;;
        esac
    done
    [ -n "$rules" ] || die "$6 does not resolve"
    mend_by_itself 'nft delete table inet cluster_drill'
    nft "add table inet cluster_drill; add chain inet cluster_drill output { type filter hook output priority -200; policy accept; $rules }"
    ;;
*) die "no such fault: $fault" ;;
esac
