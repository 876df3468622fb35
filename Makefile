# The two commands of the README are `make demo` and `make test`; `make check` is what CI runs.
.PHONY: demo demo-multitier demo-market test test-long lint check servers build bench

build:
	cargo build --release --locked -p retempo

servers:
	scripts/servers

demo: build
	scripts/servers nats
	target/release/retempo demo

# The same over HTTP and WebSockets; they exit by the verdict.
demo-multitier: build
	target/release/retempo demo --preset multitier --rate 400 --duration 20s --verdict

demo-market: build
	target/release/retempo demo --preset market-smoke --duration 30s --verdict

test:
	scripts/servers
	cargo test --workspace --locked

# What takes minutes beside that: every search thrice, fifty captures killed, storms over their whole course. Wants a quiet machine.
test-long:
	scripts/servers
	cargo test --workspace --locked --no-fail-fast -- --ignored --nocapture --test-threads=1

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

bench:
	cargo build --release --locked --workspace
	scripts/servers nats
	bench/run

check: lint test
