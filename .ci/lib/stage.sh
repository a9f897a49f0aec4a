# Runs the gate's stages: time, log, and what to show when one fails. Sourced by .ci/run.
# shellcheck shell=bash

summary=()
failed=0

say() { printf '%s ci: %s\n' "$(date +%H:%M:%S)" "$*"; }

# stage NAME COMMAND...: runs a command, shows and keeps its output, and goes on if it fails, so that one run tells
# all that is wrong.
stage() {
    local name=$1 log status=0 started=$SECONDS result=ok
    shift
    log=$logs/${name// /-}.log
    printf '\n'
    say "== $name"
    # In a subshell of its own with `errexit`, which a condition around it would turn off.
    set +e
    (
        set -e
        "$@"
    ) 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    if ((status)); then
        failed=$((failed + 1))
        result=FAILED
        say "== $name FAILED with status $status; from $log:"
        what_failed "$log" | sed 's/^/    | /'
    else
        say "== $name ok in $((SECONDS - started)) s"
    fi
    summary+=("$(printf '%-28s %-7s %5d s' "$name" "$result" $((SECONDS - started)))")
    return 0
}

# what_failed LOG: the end of a log, and then the tests that failed and what they said: a test runner tells of them far
# above its end.
what_failed() {
    tail -n 40 "$1"
    grep -E -A 4 '^test .* FAILED$|panicked at |^test result: FAILED' "$1" | tail -n 120 || true
}

# need_stage NAME COMMAND...: as `stage`, but what follows makes no sense without it.
need_stage() {
    local before=$failed
    stage "$@"
    if ((failed > before)); then exit 1; fi
}

# retry COMMAND...: registries fail now and then, and that says nothing about the change.
retry() {
    local attempt
    for attempt in 1 2 3 4; do
        if "$@"; then return 0; fi
        say "attempt $attempt of 4 failed: $*"
        sleep $((attempt * 5))
    done
    return 1
}

# The last thing that happens, whatever happened before.
finish() {
    local status=$?
    stop_cluster
    stop_engine
    printf '\n'
    say "summary, $SECONDS s in all"
    if ((${#summary[@]})); then printf '    %s\n' "${summary[@]}"; fi
    if ((failed || status)); then
        say 'FAILED'
        exit 1
    fi
    say 'passed'
}
