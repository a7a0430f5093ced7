# The hosts, as benches/compare.sh has written them down: a JSON object a line.
import json
import os

with open(os.environ["BENCH_HOSTS"], encoding="utf-8") as lines:
    found = [json.loads(line) for line in lines]

cluster = [
    (
        host["address"],
        {
            "ssh_user": "root",
            "ssh_key": os.environ["BENCH_KEY"],
            "ssh_known_hosts_file": os.environ["BENCH_KNOWN_HOSTS"],
            "ssh_strict_host_key_checking": "yes",
            "node": host["name"],
            "node_id": host["id"],
            "role": host["role"],
            "primary_host": next(it["private"] for it in found if it["role"] == "primary"),
        },
    )
    for host in found
]
