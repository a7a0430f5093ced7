# `make demo` does the main job on this machine, `make test` passes the tests. Both install what they need.

NODE_TARGET := x86_64-unknown-linux-gnu
NODE_PROGRAM := target/$(NODE_TARGET)/node/cluster-node

# How many labs of `make test-hosts` stand side by side.
LABS ?= 1
# What `make test-hosts` leaves out.
SKIP ?=
# What `make chaos` plays, and how often `make faults-times` plays each fault.
SEEDS ?= 30
FROM ?= 1
RUNS ?= 10
MOMENTS ?= 100
GAPS ?= 20
RESULTS := target/faults/results.jsonl
# A lab, one cluster, many faults.
FAULTS_TEST := FAULTS_RESULTS=$(RESULTS) cargo test --test faults -- --ignored --nocapture --test-threads=1 --exact

.PHONY: build node demo demo-down story story-pictures story-test test test-hosts test-pgbackrest bench bench-compare bench-backups bench-fit lint deny clean \
	faults faults-short faults-year faults-repository faults-trio faults-times faults-stock chaos \
	sweep-settings sweep-keys sweep-moments sweep-gaps sweep-lost

# The operator's program, and beside it the nodes': static, so that it runs on any droplet.
build: node
	cargo build --release --bin cluster
	cp $(NODE_PROGRAM) target/release/cluster-node

node:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile node --package cluster-node --target $(NODE_TARGET)

# Three hosts that boot, one cluster, a write through the floating IP.
demo:
	scripts/prerequisites.sh hosts
	$(MAKE) build
	scripts/demo.sh

demo-down:
	scripts/demo-down.sh

# The cluster as its application sees it: the primary lost, its return, a switchover. Six to seven minutes.
story:
	scripts/prerequisites.sh hosts
	$(MAKE) build
	scripts/story.sh

# The same, with a browser on the application's page, and pictures of it.
story-pictures:
	scripts/prerequisites.sh hosts
	$(MAKE) build
	scripts/story.sh --pictures docs/images

# The application alone, against servers that refuse, break and fall silent.
story-test:
	scripts/story-prerequisites.sh
	cd examples/sequelize && PATH=$(CURDIR)/target/node/node_modules/.bin:$$PATH && \
		npm install --no-audit --no-fund --loglevel=error && npm test

# Everything that needs neither root nor a lab.
test:
	scripts/prerequisites.sh tests
	cargo test

# Everything that does, but PostgreSQL 12 on hosts where CLUSTER_TEST_POSTGRESQL_12 names no directory with its packages. An hour
# and a half on two cores, an hour with LABS=2, more with every moment and drill.
test-hosts: node
	scripts/prerequisites.sh hosts
	cargo test --test hosts -- --ignored --nocapture --test-threads=$(LABS) $(SKIP:%=--skip %) \
		$(if $(CLUSTER_TEST_POSTGRESQL_12),,--skip postgresql_12_on_bookworm)
	cargo test --test lab_hosts --test postgresql_12 -- --ignored --nocapture --test-threads=1

# pgBackRest's whole life against the lab's object storage, in a minute. Needs root, pgbackrest and a PostgreSQL server.
test-pgbackrest:
	cargo test --test cloud -- --ignored --nocapture pgbackrest

# The fault matrix: every row, then two data nodes without a witness. About forty minutes; FAULTS=killed,frozen plays
# two rows. What was seen is in target/faults/results.jsonl, a line each.
faults: node
	scripts/prerequisites.sh hosts
	cargo build
	$(FAULTS_TEST) the_matrix two_data_nodes_alone

# One cluster grows, shrinks, has a node made anew and gets larger droplets, while it is written to and its runs are killed. About
# five minutes.
faults-year: node
	scripts/prerequisites.sh hosts
	cargo build
	$(FAULTS_TEST) a_year_of_one_cluster

# Faults of the backup repository, and of the cluster in the middle of a backup. About forty minutes; FAULTS as above.
faults-repository: node
	scripts/prerequisites.sh hosts
	cargo build
	$(FAULTS_TEST) the_repository

# The part of it that tests every promise, in about five minutes.
faults-short: node
	scripts/prerequisites.sh hosts
	cargo build
	$(FAULTS_TEST) every_promise_in_five_minutes

# Random schedules of faults: SEEDS of them, FROM this one on. Those that have passed are remembered in
# target/chaos/passed, so that it can be stopped and taken up.
chaos: node
	scripts/prerequisites.sh hosts
	cargo build
	SEEDS=$(SEEDS) FROM=$(FROM) $(FAULTS_TEST) random_schedules

# RUNS failovers with three data nodes: the standby with more WAL takes over, and the other follows it. A quarter of an
# hour for 20.
faults-trio: node
	scripts/prerequisites.sh hosts
	cargo build
	RUNS=$(RUNS) $(FAULTS_TEST) three_data_nodes_under_load

# How long it takes: RUNS of each fault, medians and maxima. About half an hour, on a machine that does nothing else.
faults-times: node
	scripts/prerequisites.sh hosts
	cargo build
	RUNS=$(RUNS) $(FAULTS_TEST) time_series

# Every setting of PostgreSQL 15 and 17 with a bad and an extreme value: refused, or harmless to a failover.
sweep-settings: node
	scripts/prerequisites.sh hosts
	cargo build
	cargo test --test sweeps -- --ignored --nocapture --exact every_setting_is_refused_or_harmless

# MOMENTS restored beside a standby's data from the repository of a cluster that has failed over twice, each compared with
# what was committed then. A quarter of an hour for 100.
sweep-moments: node
	scripts/prerequisites.sh hosts
	cargo build
	MOMENTS=$(MOMENTS) cargo test --test sweeps -- --ignored --nocapture --exact every_moment_is_restored_as_it_was

# GAPS primaries lost with WAL that is not archived. About two minutes each.
sweep-gaps: node
	scripts/prerequisites.sh hosts
	cargo build
	GAPS=$(GAPS) cargo test --test sweeps -- --ignored --nocapture --exact every_gap_is_closed_or_told

# A cluster with 1 GB and a writer lost whole, and had again: how long that takes, and what is gone.
sweep-lost: node
	scripts/prerequisites.sh hosts
	cargo build
	cargo test --test sweeps -- --ignored --nocapture --exact a_cluster_that_is_lost_whole_is_had_again_with_its_data

# Every key of the inventory, changed on a cluster that lives, with a writer.
sweep-keys: node
	scripts/prerequisites.sh hosts
	cargo build
	cargo test --test sweeps -- --ignored --nocapture --exact every_key_is_done_or_refused_or_ignored

# The same checks on repmgr alone: they fail there, as they should. About fifteen minutes.
faults-stock: node
	scripts/prerequisites.sh hosts
	cargo build
	$(FAULTS_TEST) repmgr_alone_breaks_the_promises

# `up` with 3 hosts against the time that apt takes anyway. Four minutes.
bench: build
	scripts/prerequisites.sh hosts
	HOSTS=3 ROUNDS=3 TOOLS="floor cluster" benches/compare.sh

# The same against Ansible and pyinfra, with 3, 6 and 12 hosts. Two hours on two cores that do nothing else; HOSTS=3 ROUNDS=1
# takes five minutes.
bench-compare: build
	scripts/prerequisites.sh bench
	benches/compare.sh

# What backups cost, and a restore against pgBackRest by hand. About twenty minutes, on a machine that does nothing else.
bench-backups: build
	scripts/prerequisites.sh hosts
	benches/backups.sh

# pgbench with settings that fit the host against PostgreSQL's own, in turn on one host. About twenty minutes, on a machine that
# does nothing else.
bench-fit: build
	scripts/prerequisites.sh hosts
	benches/fit.sh

# Licences, banned crates, sources and known vulnerabilities of all dependencies, by deny.toml. Needs `cargo install --locked
# cargo-deny`, and fetches RustSec's database of advisories from GitHub: not for a machine that reaches registries alone.
deny:
	cargo deny check licenses bans sources
	cargo deny check advisories

lint:
	cargo fmt --all --check
	cargo clippy --all-targets -- -D warnings
	rm -rf target/render
	cargo run -q --bin cluster -- render target/render
	shellcheck -e SC2034,SC2317,SC2329 target/render/*.sh
	shellcheck scripts/*.sh benches/*.sh tests/cloud/*.sh tests/hosts/*.sh tests/sweeps/*.sh .ci/run
