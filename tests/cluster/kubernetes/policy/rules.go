package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// view is a moment of the cluster, as far as policies see it.
type view struct {
	pods       []addressed
	namespaces map[string]labels.Set
	policies   []*networkingv1.NetworkPolicy
}

type addressed struct {
	*corev1.Pod
	address string
}

func (v *view) sort() {
	slices.SortFunc(v.pods, func(a, b addressed) int { return strings.Compare(a.address, b.address) })
	slices.SortFunc(v.policies, func(a, b *networkingv1.NetworkPolicy) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

// ruleset is all that is enforced, as one transaction: a pod that a policy isolates has a chain, which returns for
// what is allowed and ends by refusing. What goes on already goes on.
func (v *view) ruleset(bridge string) string {
	var chains strings.Builder
	isolated := map[networkingv1.PolicyType][]string{}
	for _, pod := range v.pods {
		for _, direction := range []networkingv1.PolicyType{networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress} {
			allowed, applies := v.allowed(pod, direction)
			if !applies {
				continue
			}
			chain := fmt.Sprintf("%s-%s", strings.ToLower(string(direction)), pod.address)
			isolated[direction] = append(isolated[direction], fmt.Sprintf("%s : goto %s", pod.address, quoted(chain)))
			fmt.Fprintf(&chains, "    # %s/%s\n    chain %s {\n", pod.Namespace, pod.Name, quoted(chain))
			for _, match := range allowed {
				fmt.Fprintf(&chains, "        %s return\n", match)
			}
			chains.WriteString("        reject with icmp type admin-prohibited\n    }\n")
		}
	}
	lookup := func(field string, direction networkingv1.PolicyType) string {
		if len(isolated[direction]) == 0 {
			return ""
		}
		return fmt.Sprintf("%s vmap { %s }", field, strings.Join(isolated[direction], ", "))
	}
	return fmt.Sprintf(`table ip docker-mcp-policy {}
delete table ip docker-mcp-policy
table ip docker-mcp-policy {
%s    chain egress {
        %s
    }
    chain ingress {
        %s
    }
    chain forward {
        type filter hook forward priority filter - 5;
        ct state established,related accept
        jump egress
        jump ingress
    }
    chain input {
        type filter hook input priority filter - 5;
        ct state established,related accept
        iifname %q jump egress
    }
}
`, chains.String(), lookup("ip saddr", networkingv1.PolicyTypeEgress), lookup("ip daddr", networkingv1.PolicyTypeIngress), bridge)
}

// quoted makes a chain's name from an address, whose dots are not for names.
func quoted(name string) string { return strings.ReplaceAll(name, ".", "-") }

// allowed gives what the policies let through for a pod, and whether any of them isolates it in this direction.
func (v *view) allowed(pod addressed, direction networkingv1.PolicyType) (matches []string, applies bool) {
	for _, policy := range v.policies {
		if policy.Namespace != pod.Namespace || !slices.Contains(policy.Spec.PolicyTypes, direction) ||
			!selects(&policy.Spec.PodSelector, pod.Labels) {
			continue
		}
		applies = true
		if direction == networkingv1.PolicyTypeEgress {
			for _, rule := range policy.Spec.Egress {
				matches = append(matches, v.egress(policy.Namespace, rule)...)
			}
		} else {
			for _, rule := range policy.Spec.Ingress {
				matches = append(matches, v.ingress(policy.Namespace, pod, rule)...)
			}
		}
	}
	return matches, applies
}

func (v *view) egress(namespace string, rule networkingv1.NetworkPolicyEgressRule) (matches []string) {
	pods, blocks, all := v.peers(namespace, rule.To)
	if len(rule.Ports) == 0 {
		return destinations(pods, blocks, all, "")
	}
	for _, port := range rule.Ports {
		if port.Port == nil || port.Port.Type == intstr.Int {
			matches = append(matches, destinations(pods, blocks, all, portMatch(port))...)
			continue
		}
		// What a name means, only the pod at the other end says.
		if all {
			pods = v.pods
		}
		for _, peer := range pods {
			if number := named(peer.Pod, port); number != 0 {
				matches = append(matches, destinations([]addressed{peer}, nil, false, protocolPort(port, number))...)
			}
		}
	}
	return matches
}

// destinations gives one match for every way to name where a packet goes: an address of the API server is only seen in
// what the packet was before it was translated.
func destinations(pods []addressed, blocks []*networkingv1.IPBlock, all bool, port string) (matches []string) {
	if all {
		return []string{strings.TrimSpace("ip daddr 0.0.0.0/0 " + port)}
	}
	if len(pods) > 0 {
		matches = append(matches, "ip daddr "+set(pods)+" "+port)
	}
	for _, block := range blocks {
		for _, field := range []string{"ip daddr", "ct original ip daddr"} {
			matches = append(matches, blockMatch(field, block)+" "+port)
		}
	}
	return matches
}

func (v *view) ingress(namespace string, pod addressed, rule networkingv1.NetworkPolicyIngressRule) (matches []string) {
	pods, blocks, all := v.peers(namespace, rule.From)
	ports := []string{""}
	if len(rule.Ports) > 0 {
		ports = nil
	}
	for _, port := range rule.Ports {
		if port.Port == nil || port.Port.Type == intstr.Int {
			ports = append(ports, portMatch(port))
		} else if number := named(pod.Pod, port); number != 0 {
			ports = append(ports, protocolPort(port, number))
		}
	}
	for _, port := range ports {
		if all {
			matches = append(matches, "ip saddr 0.0.0.0/0 "+port)
			continue
		}
		if len(pods) > 0 {
			matches = append(matches, "ip saddr "+set(pods)+" "+port)
		}
		for _, block := range blocks {
			matches = append(matches, blockMatch("ip saddr", block)+" "+port)
		}
	}
	return matches
}

func (v *view) peers(namespace string, peers []networkingv1.NetworkPolicyPeer) (pods []addressed, blocks []*networkingv1.IPBlock, all bool) {
	for _, peer := range peers {
		if peer.IPBlock != nil {
			// The pods have no other addresses.
			if !strings.Contains(peer.IPBlock.CIDR, ":") {
				blocks = append(blocks, peer.IPBlock)
			}
			continue
		}
		for _, pod := range v.pods {
			inNamespace := pod.Namespace == namespace
			if peer.NamespaceSelector != nil {
				inNamespace = selects(peer.NamespaceSelector, v.namespaces[pod.Namespace])
			}
			if inNamespace && (peer.PodSelector == nil || selects(peer.PodSelector, pod.Labels)) {
				pods = append(pods, pod)
			}
		}
	}
	return pods, blocks, len(peers) == 0
}

func selects(selector *metav1.LabelSelector, set labels.Set) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	// The API server has checked it.
	return err == nil && parsed.Matches(set)
}

func set(pods []addressed) string {
	addresses := make([]string, len(pods))
	for i, pod := range pods {
		addresses[i] = pod.address
	}
	slices.Sort(addresses)
	return "{ " + strings.Join(slices.Compact(addresses), ", ") + " }"
}

func blockMatch(field string, block *networkingv1.IPBlock) string {
	match := field + " " + block.CIDR
	for _, except := range block.Except {
		match += " " + field + " != " + except
	}
	return match
}

func protocol(port networkingv1.NetworkPolicyPort) string {
	if port.Protocol == nil {
		return "tcp"
	}
	return strings.ToLower(string(*port.Protocol))
}

func portMatch(port networkingv1.NetworkPolicyPort) string {
	if port.Port == nil {
		return "meta l4proto " + protocol(port)
	}
	if port.EndPort != nil {
		return fmt.Sprintf("%s dport %d-%d", protocol(port), port.Port.IntVal, *port.EndPort)
	}
	return protocolPort(port, port.Port.IntVal)
}

func protocolPort(port networkingv1.NetworkPolicyPort, number int32) string {
	return fmt.Sprintf("%s dport %d", protocol(port), number)
}

// named gives the number that a pod has for the name of a port, or 0.
func named(pod *corev1.Pod, port networkingv1.NetworkPolicyPort) int32 {
	for _, container := range pod.Spec.Containers {
		for _, candidate := range container.Ports {
			if candidate.Name == port.Port.StrVal && strings.EqualFold(string(candidate.Protocol), protocol(port)) {
				return candidate.ContainerPort
			}
		}
	}
	return 0
}
