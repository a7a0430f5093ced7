# How many MiB of a clone are there; nothing if there is none.
du -sm "$data.cluster-new" 2>/dev/null | cut -f1
