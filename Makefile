# `make demo` does the main job on this machine, `make test` passes the tests. Both install what they need.

NODE_TARGET := x86_64-unknown-linux-gnu
NODE_PROGRAM := target/$(NODE_TARGET)/node/cluster-node

.PHONY: build node demo demo-down story story-pictures story-test test test-hosts bench lint clean

# The operator's program, and beside it the nodes': static, so that it runs on any droplet.
build: node
	cargo build --release --bin cluster
	cp $(NODE_PROGRAM) target/release/cluster-node

node:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile node --no-default-features --features node \
		--bin cluster-node --target $(NODE_TARGET)

# Three hosts that boot, one cluster, a write through the floating IP.
demo:
	scripts/prerequisites.sh hosts
	$(MAKE) build
	scripts/demo.sh

demo-down:
	scripts/demo-down.sh

# The cluster as its application sees it: the primary lost, its return, a switchover. About six minutes.
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

# Everything that needs neither root nor a laboratory.
test:
	scripts/prerequisites.sh tests
	cargo test

# Everything that does. About ten minutes on two cores.
test-hosts: node
	scripts/prerequisites.sh hosts
	cargo test --test hosts --test lab_hosts --test postgresql_12 -- --ignored --nocapture --test-threads=1

# `up` against the time that apt takes anyway.
bench: build
	scripts/prerequisites.sh hosts
	benches/up.sh

lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	rm -rf target/render
	cargo run -q --bin cluster -- render target/render
	shellcheck -e SC2034,SC2317,SC2329 target/render/*.sh
	shellcheck scripts/*.sh benches/*.sh .ci/run
