# The last lines ($1) of the node's journal, oldest first.
cat /var/lib/cluster/journal.jsonl.1 /var/lib/cluster/journal.jsonl 2>/dev/null | tail -n "$1"
