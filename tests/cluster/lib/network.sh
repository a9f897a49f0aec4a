# The network of the pods: a bridge, and rules that let it through. Everything has a name or a table of its own, so
# that Docker's rules and anybody else's stay untouched. Sourced by scripts/cluster.
# shellcheck shell=bash

bridge=mcp-cluster0
# The node's address. The kubelet takes none of loopback, so it is the bridge's.
node_address=10.217.0.1
pod_range=10.217.0.0/24
service_range=10.218.0.0/24
# What pods know as the API server; the first of the range.
api_service=10.218.0.1
mark=docker-mcp-cluster
policy_socket=$state/run/policy.sock
# Where Debian's containernetworking-plugins has them.
cni_plugins=/usr/lib/cni

# The bridge, whose packets the firewall sees also when they go from one pod to the next.
make_network() {
    ip link add "$bridge" type bridge nf_call_iptables 1 nf_call_ip6tables 1
    ip address add "$node_address/24" dev "$bridge"
    ip link set "$bridge" up
    sysctl -q -w net.ipv4.ip_forward=1
    # The API server listens on loopback only, and pods get there by their service address.
    sysctl -q -w "net.ipv4.conf.$bridge.route_localnet=1"
    nft -f - <<NFT
table ip docker-mcp-cluster {
    chain to-api-server {
        type nat hook prerouting priority -110;
        iifname "$bridge" ip daddr $api_service tcp dport 443 dnat to 127.0.0.1:$api_port
    }
    chain to-outside {
        type nat hook postrouting priority srcnat;
        ip saddr $pod_range ip daddr != $pod_range oifname != "$bridge" masquerade
    }
    chain loopback-is-not-for-pods {
        type filter hook input priority filter;
        iifname "$bridge" ip daddr 127.0.0.0/8 ct status & dnat != dnat drop
    }
}
# Pods have IPv4 only; the policies say nothing of what would pass beside it.
table ip6 docker-mcp-cluster {
    chain none-through { type filter hook forward priority filter; iifname "$bridge" drop; }
    chain none-in { type filter hook input priority filter; iifname "$bridge" drop; }
}
NFT
    # Docker lets through only what it knows.
    local direction
    for direction in --in-interface --out-interface; do
        iptables -w -I FORWARD "$direction" "$bridge" -m comment --comment "$mark" -j ACCEPT
    done
    mkdir -p "$state/cni/net.d" "$state/cni/bin"
    ln -s "$cni_plugins"/* "$state/cni/bin/"
    cp "$tools/policy" "$state/cni/bin/docker-mcp-policy"
    cat >"$state/cni/net.d/10-docker-mcp.conflist" <<JSON
{"cniVersion": "1.0.0", "name": "docker-mcp-cluster", "plugins": [{
    "type": "bridge", "bridge": "$bridge", "isGateway": true, "hairpinMode": true,
    "ipam": {"type": "host-local", "dataDir": "$state/cni/addresses",
        "ranges": [[{"subnet": "$pod_range", "gateway": "$node_address"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "docker-mcp-policy", "socket": "$policy_socket"}]}
JSON
}

remove_network() {
    local direction table
    for direction in --in-interface --out-interface; do
        while iptables -w -D FORWARD "$direction" "$bridge" -m comment --comment "$mark" -j ACCEPT 2>/dev/null; do :; done
    done
    # The third and fourth are of our policy enforcer and kube-proxy.
    for table in 'ip docker-mcp-cluster' 'ip6 docker-mcp-cluster' 'ip docker-mcp-policy' 'ip kube-proxy' 'ip6 kube-proxy'; do
        # shellcheck disable=SC2086 # family and name are words
        nft delete table $table 2>/dev/null || true
    done
    if [[ -e /sys/class/net/$bridge ]]; then ip link delete "$bridge"; fi
    rm -rf /var/lib/cni/results/docker-mcp-cluster-*
}
