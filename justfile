# What one does here often; `just` lists it. CONTRIBUTING.md says when to run which.

_:
    @just --list --unsorted

# format, lints, unit tests, house rules: before every commit
quick:
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cargo test --locked --lib
    cargo test --locked --test tidy

# promises, of one module (`just behaviour cookies`) or all
behaviour module="":
    cargo test --locked --test behaviour {{module}}

# the documents that are generated from the tables of keys
docs:
    cargo run --locked -q -- schema --format markdown > docs/config.md
    cargo run --locked -q -- schema > docs/config.schema.json

# licences, sources, forbidden crates, advisories
deny:
    cargo deny --locked check

# every test that needs nothing but the toolchain
test:
    cargo test --locked

# everything, with real servers and clients; as root, installs Debian packages
ci:
    .ci/run
