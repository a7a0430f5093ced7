#!/bin/sh
# Waits for cloud-init. A host may let us in and run nothing yet: only a computed answer counts.
set -u
echo "ready-$((6 * 7))"
if ! command -v cloud-init >/dev/null; then exit 0; fi
# What it leaves at the end of this boot. Asking it takes a second of Python, so that is done now and then.
result=/run/cloud-init/result.json
tries=0
while [ ! -e "$result" ]; do
    if [ -e /run/cloud-init/disabled ]; then exit 0; fi
    if [ $((tries % 20)) = 0 ]; then
        status=$(cloud-init status 2>/dev/null | sed -n 's/^status: //p')
        case $status in
            done | disabled | error | degraded*) break ;;
            # Where nothing starts it, it says so for ever.
            'not run' | 'not started')
                case $(systemctl is-system-running 2>/dev/null) in running | degraded) exit 0 ;; esac
                ;;
        esac
        echo "cloud-init is ${status:-starting}"
    fi
    tries=$((tries + 1))
    sleep 0.25
done
if [ -e "$result" ] && ! grep -q '"errors": \[\]' "$result"; then
    # Recoverable errors are common in vendors' images and do not concern us; say so and go on.
    echo "cloud-init finished with errors:"
    cloud-init status --long 2>/dev/null
fi
exit 0
