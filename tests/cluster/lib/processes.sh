# Starts and stops the cluster's processes. Each has a file with its number and when it started, so that only our own
# are ever signalled. Sourced by scripts/cluster, which sets `state`.
# shellcheck shell=bash

# started PID: when a process started, in clock ticks since boot. Nothing if there is none, or only its remains.
started() {
    local fields
    fields=$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) || return 0
    # shellcheck disable=SC2086 # the fields are words
    set -- $fields
    if [[ ${1:-Z} != Z ]]; then echo "${20}"; fi
}

# launch NAME PROGRAM ARGUMENT...
launch() {
    local name=$1 pid
    shift
    setsid "$@" >"$state/logs/$name.log" 2>&1 </dev/null 8>&- 9>&- &
    pid=$!
    echo "$pid $(started "$pid")" >"$state/processes/$name"
}

alive() {
    local pid since
    read -r pid since 2>/dev/null <"$state/processes/$1" || return 1
    [[ -n $since && $(started "$pid") == "$since" ]]
}

process_names() { if [[ -d $state/processes ]]; then ls "$state/processes"; fi; }

# must_live: ends the run if a process of ours has ended.
must_live() {
    local name
    for name in $(process_names); do
        if ! alive "$name"; then
            say "$name ended; the last lines of $state/logs/$name.log:"
            tail -n 20 "$state/logs/$name.log" >&2
            exit 1
        fi
    done
}

# await SECONDS WHAT COMMAND...: until the command is true.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        must_live
        if ((SECONDS > deadline)); then die "$what: not so in time; the logs are in $state/logs"; fi
        sleep 0.1
    done
}

# halt NAME...: ends them, by force, for they keep nothing that is needed again.
halt() {
    local name pid
    for name in "$@"; do
        if alive "$name"; then
            read -r pid _ <"$state/processes/$name"
            kill -9 "$pid" 2>/dev/null || true
        fi
    done
    for name in "$@"; do
        while alive "$name"; do sleep 0.02; done
        rm -f "$state/processes/$name"
    done
}
