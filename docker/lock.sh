#!/bin/sh
# `make lock`: pin and hash what the image installs, for every Python and processor. Needs uv; run it after a change of
# pyproject.toml, constraints.txt or of a *.in file.
set -eu
cd "$(dirname "$0")/.."
lock() {
    uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate "$@"
}
lock pyproject.toml --extra cpu --constraint constraints.txt --output-file docker/requirements/flight.txt
for name in engines tools; do
    lock "docker/requirements/$name.in" --constraint constraints.txt --constraint docker/requirements/flight.txt \
        --output-file "docker/requirements/$name.txt"
done
