# Tries what the tests rely on, so that a cluster that lacks it is told from a defect of ours. Sourced by
# scripts/cluster.
# shellcheck shell=bash

check() {
    local began=$SECONDS job jobs=() failed=0
    running || die "no cluster; start it with \`scripts/cluster up\`"
    namespace=check-$$
    work=$(mktemp -d)
    trap clean_check EXIT
    for job in "$namespace" "$namespace-restricted"; do
        kubectl create namespace "$job" >/dev/null
        await 90 'the namespace has an account' kubectl --namespace "$job" get serviceaccount default
    done
    # What several of them ask.
    pod web Ready '' 'ports: [{name: http, containerPort: 8080}],' httpd -f -p 8080
    k expose pod web --port 80 --target-port 8080 >/dev/null
    web_pod=$(k get pod web -o 'jsonpath={.status.podIP}')
    web=$(k get service web -o 'jsonpath={.spec.clusterIP}')
    try 'a list streams by a watch' check_streaming_list
    try 'attach has streams of their own' check_attach
    try 'exit code and reason of an end' check_ends
    try 'claims get volumes' check_volumes
    try 'a restricted namespace' check_restricted
    try 'services' check_service
    try 'API access from a pod' check_service_account
    try 'network policies' check_policies
    try 'a registry, with credentials' check_registry
    for job in "${jobs[@]}"; do wait "$job" || failed=$((failed + 1)); done
    ((failed == 0)) || die "$failed of ${#jobs[@]} do not work"
    say "all of it works, in $((SECONDS - began)) s"
}

# try WHAT COMMAND...: beside the others.
try() {
    local what=$1
    shift
    (
        trap - EXIT
        # Not in a condition, which would go on after an error.
        trap 'status=$?; if ((status)); then say "$what: does not work"; fi' EXIT
        "$@"
        say "$what: works"
    ) &
    jobs+=($!)
}

clean_check() {
    local job
    kubectl delete namespace "$namespace" "$namespace-restricted" --ignore-not-found --wait=false >/dev/null 2>&1 || true
    for job in "$namespace" "$namespace-restricted"; do
        kubectl --namespace "$job" delete pods --all --now >/dev/null 2>&1 || true
        kubectl wait --for=delete "namespace/$job" --timeout=60s >/dev/null 2>&1 || true
    done
    kubectl delete persistentvolume "$namespace" --ignore-not-found >/dev/null 2>&1 || true
    if [[ -s $work/registry.pid ]]; then kill "$(cat "$work/registry.pid")" 2>/dev/null || true; fi
    rm -rf "$work"
}

k() { kubectl --namespace "$namespace" "$@"; }

await_object() { await 90 "$1 is there" k get "$1"; }

# pod NAME PHASE FIELDS [CONTAINER-FIELDS] COMMAND...: a pod of one container, and the wait for a phase or `Ready`. The
# fields are of YAML's flow style.
pod() {
    local name=$1 phase=$2 fields=$3 container=$4 image=mcp-test/busybox:1 command
    shift 4
    if [[ $1 == --image ]]; then
        image=$2
        shift 2
    fi
    command=$(printf '%s\0' "$@" | python3 -c 'import json, sys; print(json.dumps(sys.stdin.read().split("\0")[:-1]))')
    k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Pod
metadata: {name: $name, labels: {name: $name}}
spec: {terminationGracePeriodSeconds: 0, dnsPolicy: Default, restartPolicy: Never, $fields
  containers: [{name: main, image: "$image", $container command: $command}]}
YAML
    case $phase in
        Ready) k wait --for=condition=Ready "pod/$name" --timeout=120s >/dev/null ;;
        *) k wait --for="jsonpath={.status.phase}=$phase" "pod/$name" --timeout=120s >/dev/null ;;
    esac
}

# With an etcd that is too old this fails while all else works.
check_streaming_list() {
    kubectl get --raw "/api/v1/namespaces/$namespace/configmaps?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=2" |
        grep -q '"k8s.io/initial-events-end":"true"'
}

check_attach() {
    local answer
    # It answers when attached and asked, so that nothing is written before.
    # shellcheck disable=SC2016 # expanded in the pod
    pod stdio Ready '' 'stdin: true, stdinOnce: true,' sh -c 'read -r word; echo "out $word"; echo "err $word" >&2; read -r end'
    answer=$( (echo hello; timeout 20 sh -c 'until [ -s "$0" ]; do sleep 0.1; done' "$work/out") |
        k attach --quiet --stdin stdio 2>"$work/err" | tee "$work/out")
    [[ $answer == 'out hello' ]]
    grep -qx 'err hello' "$work/err"
}

check_ends() {
    pod ends Failed '' '' sh -c 'exit 7'
    [[ $(k get pod ends -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}') == 7 ]]
    pod greedy Failed '' 'resources: {limits: {memory: 16Mi}},' tail /dev/zero
    [[ $(k get pod greedy -o 'jsonpath={.status.containerStatuses[0].state.terminated.reason}') == OOMKilled ]]
}

# One volume that is made by hand, and one that the cluster makes.
check_volumes() {
    k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: $namespace}
spec: {storageClassName: "", capacity: {storage: 1Mi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain,
  hostPath: {path: $work/by-hand, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: by-hand}
spec: {storageClassName: "", volumeName: $namespace, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: made}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
YAML
    pod writer Succeeded 'volumes: [{name: a, persistentVolumeClaim: {claimName: by-hand}}, {name: b, persistentVolumeClaim: {claimName: made}}],' \
        'volumeMounts: [{name: a, mountPath: /a}, {name: b, mountPath: /b}],' sh -c 'echo kept | tee /a/file >/b/file'
    [[ $(cat "$work/by-hand/file") == kept ]]
    pod reader Succeeded 'volumes: [{name: b, persistentVolumeClaim: {claimName: made}}],' \
        'volumeMounts: [{name: b, mountPath: /b}],' grep -x kept /b/file
}

check_restricted() {
    local hardened='securityContext: {runAsNonRoot: true, runAsUser: 1000, readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}},'
    local namespace=$namespace-restricted
    kubectl label namespace "$namespace" pod-security.kubernetes.io/enforce=restricted >/dev/null
    if pod loose Succeeded '' '' true 2>"$work/refusal"; then return 1; fi
    grep -q 'violates PodSecurity' "$work/refusal"
    pod hardened Succeeded '' "$hardened" grep -q 'Seccomp:.2' /proc/self/status
}

check_service() {
    # kube-proxy hears of it a little later.
    # shellcheck disable=SC2016 # expanded in the pod
    pod visitor Succeeded '' '' sh -c 'for i in $(seq 50); do nc -w 1 "$0" 80 </dev/null && exit; sleep 0.1; done; exit 1' "$web"
}

# The same request as an account that may and as one that may not.
check_service_account() {
    local script='const read = (f) => require("fs").readFileSync("/var/run/secrets/kubernetes.io/serviceaccount/" + f, "utf8");
        const url = `https://${process.env.KUBERNETES_SERVICE_HOST}:${process.env.KUBERNETES_SERVICE_PORT}/api/v1/namespaces/${read("namespace")}/pods`;
        require("https").get(url, {ca: read("ca.crt"), headers: {authorization: "Bearer " + read("token")}},
            (answer) => process.exit(answer.statusCode === Number(process.argv[1]) ? 0 : 1)).on("error", (e) => { console.log(e); process.exit(2); });'
    k create serviceaccount lister >/dev/null
    k create role lister --verb=list --resource=pods >/dev/null
    k create rolebinding lister --role=lister --serviceaccount="$namespace:lister" >/dev/null
    pod may Succeeded 'serviceAccountName: lister,' '' --image mcp-test/everything:1 /bin/node -e "$script" 200
    pod may-not Succeeded '' '' --image mcp-test/everything:1 /bin/node -e "$script" 403
}

# A pod that tries at once must be too early for no rule.
check_policies() {
    local targets
    # Pod, service, node and API server.
    targets=("$web_pod 8080" "$web 80" "$node_address 10250" "$api_service 443")
    policy no-egress '{podSelector: {matchLabels: {name: cut-off}}, policyTypes: [Egress]}'
    policy some-egress "{podSelector: {matchLabels: {name: narrow}}, policyTypes: [Egress],
        egress: [{to: [{podSelector: {matchLabels: {name: web}}}], ports: [{port: 8080}]}]}"
    # The other ways to say it: blocks with exceptions, ranges, names of ports and of namespaces.
    policy by-block "{podSelector: {matchLabels: {name: by-block}}, policyTypes: [Egress], egress: [{
        to: [{ipBlock: {cidr: 0.0.0.0/0, except: [$node_address/32]}}], ports: [{port: 8000, endPort: 8080}, {port: 10250}, {protocol: UDP}]}]}"
    policy by-service-address "{podSelector: {matchLabels: {name: by-block}}, policyTypes: [Egress], egress: [{
        to: [{ipBlock: {cidr: $api_service/32}}]}]}"
    policy by-name "{podSelector: {matchLabels: {name: by-name}}, policyTypes: [Egress], egress: [{
        to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $namespace}}}], ports: [{port: http}]}]}"
    reaches free 'yes yes yes yes' "${targets[@]}" &
    local free=$!
    reaches cut-off 'no no no no' "${targets[@]}" &
    local cut_off=$!
    reaches by-block 'yes yes no yes' "${targets[@]}" &
    local by_block=$!
    reaches by-name 'yes yes no no' "${targets[@]}" &
    local by_name=$!
    reaches narrow 'yes yes no no' "${targets[@]}"
    wait "$free"
    wait "$cut_off"
    wait "$by_block"
    wait "$by_name"
    pod guarded Ready '' '' httpd -f -p 8080
    policy some-ingress "{podSelector: {matchLabels: {name: guarded}}, policyTypes: [Ingress],
        ingress: [{from: [{podSelector: {matchLabels: {name: friend}}}]}]}"
    targets=("$(k get pod guarded -o 'jsonpath={.status.podIP}') 8080")
    reaches friend yes "${targets[@]}"
    reaches stranger no "${targets[@]}"
}

# reaches POD ANSWERS TARGET...: true if a new pod of this name gets these answers from the targets, each an address
# and a port.
reaches() {
    local name=$1 expected=$2 answers index
    shift 2
    local -a wanted tries=()
    read -ra wanted <<<"$expected"
    for ((index = 0; index < ${#wanted[@]}; index++)); do tries+=("${wanted[index]} $1"); shift; done
    # What forwards connections hears of a service a little later; what is to be cut off is tried once.
    # shellcheck disable=SC2016 # expanded in the pod
    pod "$name" Succeeded '' '' sh -c 'for try in "$@"; do
        answer=no left=10
        until nc -w 1 ${try#* } </dev/null 2>/dev/null && answer=yes; do
            left=$((left - 1))
            [ "${try%% *}" = yes ] && [ "$left" -gt 0 ] || break
            sleep 1
        done
        echo $answer
    done' sh "${tries[@]}"
    answers=$(k logs "$name" | paste -sd ' ')
    if [[ $answers != "$expected" ]]; then
        say "pod $name gets $answers from ${tries[*]}, where $expected is right"
        return 1
    fi
}

policy() {
    k apply -f - >/dev/null <<YAML
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: $1}
spec: $2
YAML
}

# As tests do it: a registry on loopback that wants a password, and an image that Docker puts there.
check_registry() {
    local port reference user=puller:password
    if ! command -v docker-registry >/dev/null; then
        say 'there is no docker-registry, so pulling is not tried'
        return
    fi
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    # shellcheck disable=SC2016 # a hash
    echo 'puller:$2b$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu' >"$work/htpasswd"
    cat >"$work/registry.yaml" <<YAML
version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:$port"}
auth: {htpasswd: {realm: check, path: $work/htpasswd}}
YAML
    docker-registry serve "$work/registry.yaml" >"$work/registry.log" 2>&1 &
    echo "$!" >"$work/registry.pid"
    await 60 'the registry answers' curl --silent --fail --user "$user" "http://127.0.0.1:$port/v2/"
    reference=127.0.0.1:$port/check:1
    printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "$port" "$(printf %s "$user" | base64)" >"$work/config.json"
    docker tag mcp-test/busybox:1 "$reference"
    docker --config "$work" push --quiet "$reference" >/dev/null
    docker rmi "$reference" >/dev/null
    k create secret generic pull --type kubernetes.io/dockerconfigjson --from-file=.dockerconfigjson="$work/config.json" >/dev/null
    pod pulled Succeeded 'imagePullSecrets: [{name: pull}],' 'imagePullPolicy: Always,' --image "$reference" true
    pod refused Pending '' 'imagePullPolicy: Always,' --image "$reference" true
    k wait --for='jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull' pod/refused --timeout=120s >/dev/null
    in_containerd images rm "$reference" >/dev/null
}
