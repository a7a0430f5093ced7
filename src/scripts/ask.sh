# Asks the guard, or tells it: the words of a command of cluster-node. The answer is JSON; a program of an earlier build,
# which does not know the variable, answers in words.
exec env CLUSTER_NODE_JSON=1 /usr/local/bin/cluster-node "$@"
