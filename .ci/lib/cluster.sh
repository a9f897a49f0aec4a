# Makes, starts and stops the Kubernetes cluster of the tests. Sourced by .ci/run, which sets `logs`.
# shellcheck shell=bash

cluster_build=
cluster_started=$logs/cluster.started

# Compiling takes minutes where it was never done; so it begins early, and goes on beside other stages at the lowest
# priority.
begin_cluster_build() {
    # In a group of its own, so that it can be ended with all its children. Where the kernel shares the processors among
    # such groups, a priority counts only within one: the group has to get the lowest itself.
    DOCKER_MCP_CLUSTER_NICE=19 setsid bash -c \
        '{ echo 19 >/proc/self/autogroup; } 2>/dev/null || true; exec scripts/cluster build' \
        >"$logs/cluster-build.log" 2>&1 &
    cluster_build=$!
}

start_cluster() {
    local waited=$SECONDS
    # Waits for the one that goes on already, and does what it could not.
    scripts/cluster build
    cat "$logs/cluster-build.log"
    echo "the programs are there, waited $((SECONDS - waited)) s for them"
    if scripts/cluster status >/dev/null 2>&1; then
        echo 'a cluster is there already'
    else
        touch "$cluster_started"
    fi
    scripts/cluster up
    scripts/cluster image
    scripts/cluster check
    cluster_namespaces >"$logs/namespaces-before"
}

# Stops the cluster that this run started, if it did, and its build.
stop_cluster() {
    if [[ -n $cluster_build ]]; then kill -- "-$cluster_build" 2>/dev/null || true; fi
    if [[ -e $cluster_started ]]; then
        rm -f "$cluster_started"
        cp -r /var/lib/docker-mcp-cluster/logs "$logs/cluster" 2>/dev/null || true
        scripts/cluster down || true
    fi
}

# The namespaces, with what the gateway may have made in them.
cluster_namespaces() {
    scripts/cluster kubectl get namespaces,persistentvolumes --output name | sort
    scripts/cluster kubectl get pods,secrets,configmaps,leases,networkpolicies,persistentvolumeclaims --namespace default \
        --output name | sort
}

# As `no_leftovers` for the engine: a namespace that is being deleted has some time.
nothing_left_in_cluster() {
    local deadline=$((SECONDS + 60)) left
    while true; do
        cluster_namespaces >"$logs/namespaces-after"
        left=$(comm -13 <(sort "$logs/namespaces-before") <(sort "$logs/namespaces-after"))
        if [[ -z $left ]]; then break; fi
        if ((SECONDS > deadline)); then
            echo 'the tests left behind in the cluster:'
            echo "$left"
            return 1
        fi
        sleep 1
    done
    echo 'the cluster is as it was'
}
