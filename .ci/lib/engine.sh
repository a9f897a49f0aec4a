# Starts a Docker Engine if none answers, and stops the one that was started. Sourced by .ci/run and scripts/engine,
# which set `logs`.
# shellcheck shell=bash

socket=/var/run/docker.sock
engine_pid=$logs/dockerd.pid

engine_answers() { docker --host "unix://$socket" version >/dev/null 2>&1; }

start_engine() {
    local deadline pid
    if engine_answers; then
        echo "an engine answers on $socket already"
        return
    fi
    forget_dead_engine
    setsid dockerd --host "unix://$socket" >"$logs/dockerd.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$engine_pid"
    deadline=$((SECONDS + 120))
    until engine_answers; do
        if ! kill -0 "$pid" 2>/dev/null; then
            echo 'dockerd ended:'
            tail -n 30 "$logs/dockerd.log"
            return 1
        fi
        if ((SECONDS > deadline)); then
            echo 'dockerd does not answer after 120 s:'
            tail -n 30 "$logs/dockerd.log"
            return 1
        fi
        sleep 0.5
    done
    echo "started dockerd, process $pid, log in $logs/dockerd.log"
}

# An engine that was killed leaves files that name its processes. A new one takes them for alive if the numbers are in
# use again, or if nobody has collected the dead ones yet.
forget_dead_engine() {
    local file pid name
    for file in /var/run/docker.pid:dockerd /var/run/docker/containerd/containerd.pid:containerd; do
        name=${file##*:}
        file=${file%:*}
        if [[ ! -e $file ]]; then continue; fi
        pid=$(cat "$file")
        if [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$name" ]] && ! grep -q '^State:.*Z' "/proc/$pid/status"; then
            continue
        fi
        echo "removing $file of a $name that is dead"
        rm -f "$file"
    done
}

# Stops the engine that `start_engine` started, if it did.
stop_engine() {
    local pid deadline=$((SECONDS + 30))
    if [[ ! -s $engine_pid ]]; then return; fi
    pid=$(cat "$engine_pid")
    rm -f "$engine_pid"
    # The number may be somebody else's by now.
    if [[ $(cat "/proc/$pid/comm" 2>/dev/null) != dockerd ]]; then return; fi
    kill "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        if ((SECONDS > deadline)); then
            kill -9 "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.2
    done
}

# What the gateway made, by its label.
gateway_objects() {
    docker ps --all --filter label=docker-mcp=true --format 'container {{.ID}} {{.Names}} ({{.Image}}, {{.Status}})'
    docker network ls --filter label=docker-mcp=true --format 'network {{.ID}} {{.Name}}'
}

remember_leftovers() { gateway_objects | sort >"$logs/objects-before"; }

# Every test cleans up after itself; here is where it shows. What was there before the run is not counted.
no_leftovers() {
    local deadline=$((SECONDS + 60)) left
    while true; do
        gateway_objects | sort >"$logs/objects-after"
        left=$(join -v 2 -1 2 -2 2 <(sort -k 2,2 "$logs/objects-before") <(sort -k 2,2 "$logs/objects-after"))
        if [[ -z $left ]]; then break; fi
        if ((SECONDS > deadline)); then
            echo 'the tests left behind:'
            echo "$left"
            return 1
        fi
        sleep 1
    done
    echo 'no container or network of the gateway is left'
}
