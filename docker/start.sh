#!/bin/sh
# What the container runs: prepare [options], fly [options of aerial-runtime], or any command.
set -eu
home=/var/lib/aerial
case "${1-}" in
prepare)
    shift
    exec python /opt/aerial/libexec/prepare.py --models "$home/models" "$@"
    ;;
fly)
    shift
    for word in "$@"; do
        case "$word" in
        --*=*) word=${word#*=} ;;
        esac
        case "$word" in
        *.engine)
            if [ ! -e "$word" ]; then
                echo "fly: error: there is no engine $word; build this device's: docker compose run --rm aerial prepare" >&2
                exit 3
            fi
            ;;
        esac
    done
    # A name of its own for every start: what was recorded before a restart is never in the way.
    exec aerial-runtime --output "$home/recordings/$(date -u +%Y%m%dT%H%M%S.%N).jsonl" "$@"
    ;;
*)
    exec "$@"
    ;;
esac
