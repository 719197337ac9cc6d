#!/bin/sh
# Writes what a package holds beside the program, and what the program itself knows, to target/package: the manual
# pages and the completions. For the Debian package:
#   cargo build --locked --release && deploy/package-files.sh && cargo deb --no-build
set -eu
cd "$(dirname "$0")/.."
program=${1:-target/release/lastseen}
out=target/package
rm -rf "$out"
mkdir -p "$out"
"$program" man "$out/man"
for shell in bash zsh fish; do
    "$program" completions "$shell" >"$out/lastseen.$shell"
done
