# Proves a restore beside this standby's data: as postgres, behind everything else on the host, and in a unit of its own.
# It goes on when the connection is lost, and nothing that it has started outlives it. One that is under way is followed.
exec systemd-run -q --unit "cluster-proof-$$" --description "Proof of a restore" --collect --wait --pipe --uid postgres \
    -p Nice=19 -p IOSchedulingClass=idle -p OOMScoreAdjust=900 -p TimeoutStopSec=60 \
    --setenv CLUSTER_NODE_JSON=1 /usr/local/bin/cluster-node prove
