# One node for the scripts that source this.
# shellcheck shell=bash

node=

# Starts it: start_node ZEPTO_HOST DIRECTORY [FLAG...]; `at` is its address then.
start_node() {
    local host=$1 directory=$2
    shift 2
    mkdir -p "$directory"
    rm -f "$directory/announced"
    "$host" --node-id a --listen 127.0.0.1:0 --copies 1 --data-dir "$directory/data" --announce "$@" \
        >"$directory/announced" 2>"$directory/log" &
    node=$!
    until [ -s "$directory/announced" ]; do
        kill -0 "$node" || { cat "$directory/log" >&2; exit 1; }
        sleep 0.05
    done
    at=$(jq -r .address "$directory/announced")
}

# Stops it and waits, if it runs.
stop_node() {
    [ -z "$node" ] || { kill "$node" && wait "$node"; } 2>/dev/null || true
    node=
}
