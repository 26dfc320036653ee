# Two commands: `make demo` shows howdah at work, `make test` proves it.

.PHONY: demo test compat torture bench compare format tools

# The pipeline on recorded edits, with a live view. Ends with Ctrl-C.
demo: tools
	@cargo run --quiet --no-default-features --bin howdah -- demo

# Everything that guards this code, with a clock of its stages.
test: tools
	@tests/tools
	@tests/run

# The same on the oldest servers that are promised: see the README's "Tested with".
compat: tools
	@tests/tools
	@tests/compat

# The faults with their full times, and many more kills.
torture: tools
	@tests/tools
	@tests/full

# The figures of the README, measured on this machine.
bench: tools
	@benches/run

# What Flume and Spark take for the same work, on real servers.
compare: tools
	@tests/tools
	@benches/run peers

format:
	@cargo fmt --all

# Rust and a C compiler (SQLite and the TLS library hold C) are all that a build needs.
tools:
	@command -v cargo >/dev/null || { echo "howdah needs Rust 1.95 or newer: https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "howdah needs a C compiler: apt install build-essential, or dnf install gcc" >&2; exit 1; }
