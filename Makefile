# `make demo` runs the main job on this machine; `make test` passes the tests. Both install what they need.

NODE_TARGET := x86_64-unknown-linux-gnu

.PHONY: build node

# The operator's program, and beside it the nodes': static, so that it runs on any droplet.
build: node
	cargo build --release --bin cluster

node:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile node --no-default-features --features node \
		--bin cluster-node --target $(NODE_TARGET)
	mkdir -p target/release target/debug
	cp target/$(NODE_TARGET)/node/cluster-node target/release/cluster-node
	cp target/$(NODE_TARGET)/node/cluster-node target/debug/cluster-node
