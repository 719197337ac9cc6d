#!/bin/sh
# Builds the static program, which needs no file of the system, not even a C library, and prints the directory that it is
# in, alone. Needs the static glibc (Debian: libc6-dev). Arguments go to cargo: what else to build in the same way.
set -eu
cd "$(dirname "$0")/.."
target=$(uname -m)-unknown-linux-gnu
# The random generator asks the kernel: by way of the C library it ends a static program.
RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
    cargo build --locked --release --bin lastseen --target "$target" "$@"
mkdir -p target/image
cp "target/$target/release/lastseen" target/image/
echo target/image
