# The processes of Kubernetes, each with its settings. Sourced by scripts/cluster.
# shellcheck shell=bash

node=docker-mcp-node
api_port=16443
etcd_port=16379
api_server=https://127.0.0.1:$api_port
pki=$state/pki

# The one that fits what runs.
kubectl() { "$state/tools/kubectl" --kubeconfig "$state/admin.kubeconfig" "$@"; }

make_credentials() {
    mkdir -p "$pki"
    make_authority
    certificate api-server /CN=kube-apiserver \
        "IP:127.0.0.1,IP:$api_service,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificate node-server "/CN=$node" "IP:$node_address,DNS:$node"
    certificate api-server-to-node /O=system:masters/CN=kube-apiserver-kubelet-client
    client admin /O=system:masters/CN=admin
    client controller-manager /CN=system:kube-controller-manager
    client scheduler /CN=system:kube-scheduler
    client node "/O=system:nodes/CN=system:node:$node"
    client proxy /CN=system:kube-proxy
}

start_etcd() {
    launch etcd "$etcd_directory/usr/bin/etcd" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
        --listen-peer-urls "http://127.0.0.1:$((etcd_port + 1))" \
        --initial-advertise-peer-urls "http://127.0.0.1:$((etcd_port + 1))" \
        --initial-cluster "default=http://127.0.0.1:$((etcd_port + 1))"
}

# Nothing is said of admission plugins and feature gates but what the node needs: defaults are what users have.
start_api_server() {
    launch kube-apiserver "$tools/kube-apiserver" \
        --bind-address 127.0.0.1 --secure-port "$api_port" \
        --advertise-address "$node_address" --endpoint-reconciler-type none \
        --etcd-servers "http://127.0.0.1:$etcd_port" \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
        --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/api-server.crt" --tls-private-key-file "$pki/api-server.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$pki/service-account.pub" \
        --service-account-signing-key-file "$pki/service-account.key" \
        --service-cluster-ip-range "$service_range" \
        --kubelet-certificate-authority "$pki/ca.crt" --kubelet-preferred-address-types InternalIP \
        --kubelet-client-certificate "$pki/api-server-to-node.crt" --kubelet-client-key "$pki/api-server-to-node.key"
    await 180 'the API server is ready' kubectl get --raw /readyz
}

start_controllers() {
    # It also makes volumes, as directories below /tmp/hostpath_pv; the claim's storage class is in objects.yaml.
    launch kube-controller-manager "$tools/kube-controller-manager" \
        --kubeconfig "$state/controller-manager.kubeconfig" --leader-elect=false --secure-port 0 \
        --use-service-account-credentials --service-account-private-key-file "$pki/service-account.key" \
        --root-ca-file "$pki/ca.crt" --cluster-cidr "$pod_range" --service-cluster-ip-range "$service_range" \
        --enable-hostpath-provisioner --kube-api-qps 200 --kube-api-burst 400
    launch kube-scheduler "$tools/kube-scheduler" \
        --kubeconfig "$state/scheduler.kubeconfig" --leader-elect=false --secure-port 0
}

start_node() {
    # Pods cannot start without it, as it is the last that makes their network.
    launch policy "$tools/policy" --kubeconfig "$state/admin.kubeconfig" --bridge "$bridge" --socket "$policy_socket"
    cat >"$state/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
healthzPort: 0
containerRuntimeEndpoint: unix://$containerd_socket
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: /etc/resolv.conf
podLogsDir: $state/pod-logs
serializeImagePulls: false
# Which secret an image was pulled with is not remembered, for some are both imported and pulled.
imagePullCredentialsVerificationPolicy: NeverVerify
# The disk is shared with what is built here; neither images nor pods go away because it fills.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 500Mi, imagefs.available: 500Mi, nodefs.inodesFree: "0%"}
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $pki/node-server.crt
tlsPrivateKeyFile: $pki/node-server.key
YAML
    launch kubelet "$tools/kubelet" --config "$state/kubelet.yaml" --kubeconfig "$state/node.kubeconfig" \
        --root-dir "$state/kubelet" --cert-dir "$state/kubelet/pki" --hostname-override "$node" --node-ip "$node_address"
    cat >"$state/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: $pod_range
hostnameOverride: $node
clientConnection: {kubeconfig: $state/proxy.kubeconfig}
healthzBindAddress: 127.0.0.1:$((api_port + 1))
metricsBindAddress: 127.0.0.1:$((api_port + 2))
# The machine's own limits stay.
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
YAML
    launch kube-proxy "$tools/kube-proxy" --config "$state/kube-proxy.yaml"
}

node_ready() {
    [[ $(kubectl get node "$node" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]] &&
        kubectl get serviceaccount default && kubectl get configmap kube-root-ca.crt
}

# The kubelet sets these for the whole machine; they are given back when the cluster goes.
sysctls=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys
    kernel.keys.root_maxbytes)

keep_sysctls() {
    # Some machines lack some.
    sysctl --ignore "${sysctls[@]}" >"$state/sysctls" 2>/dev/null || true
}

give_back_sysctls() {
    if [[ -s $state/sysctls ]]; then sysctl -q -p "$state/sysctls" >/dev/null 2>&1 || true; fi
}
