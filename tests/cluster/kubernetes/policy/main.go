// Command policy enforces the NetworkPolicies of a cluster with one node, by a table of nftables that it writes anew
// whenever something changes.
//
// It is also the last CNI plugin of every pod: so the rules about a pod are there before its first program runs, and
// no packet comes too early for them.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// settle is how long a change waits for the next, so that many at once are one rewrite.
const settle = 10 * time.Millisecond

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		plugin()
		return
	}
	kubeconfig := flag.String("kubeconfig", "", "file with the credentials of the API server")
	bridge := flag.String("bridge", "", "interface behind which the pods are")
	socket := flag.String("socket", "", "where the CNI plugin asks")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *bridge, *socket); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, kubeconfig, bridge, socket string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods, namespaces := factory.Core().V1().Pods(), factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { notify() },
			UpdateFunc: func(any, any) { notify() },
			DeleteFunc: func(any) { notify() },
		}); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	e := &enforcer{
		client: client, bridge: bridge,
		pods: pods.Lister(), namespaces: namespaces.Lister(), policies: policies.Lister(),
		sandboxes: map[string]sandbox{},
	}
	if err := e.apply(); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	go e.serve(ctx, listener)
	log.Print("ready")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			time.Sleep(settle)
			if err := e.apply(); err != nil {
				// The old rules stay; the next change tries again.
				log.Print(err)
			}
		}
	}
}

// sandbox is what the CNI plugin says of a pod that gets or has an address.
type sandbox struct{ namespace, name, address string }

type enforcer struct {
	client     kubernetes.Interface
	bridge     string
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister

	mutex sync.Mutex
	// By the identifier of the sandbox. An address is here before the API server knows it.
	sandboxes map[string]sandbox
	applied   string
}

func (e *enforcer) apply() error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	view, err := e.view()
	if err != nil {
		return err
	}
	text := view.ruleset(e.bridge)
	if text == e.applied {
		return nil
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewBufferString(text)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, output, text)
	}
	e.applied = text
	return nil
}

// view collects what the rules are made from. The caller holds the mutex.
func (e *enforcer) view() (*view, error) {
	v := &view{namespaces: map[string]labels.Set{}}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, namespace := range namespaces {
		v.namespaces[namespace.Name] = namespace.Labels
	}
	if v.policies, err = e.policies.List(labels.Everything()); err != nil {
		return nil, err
	}
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	byName := map[string]*corev1.Pod{}
	for _, pod := range pods {
		byName[pod.Namespace+"/"+pod.Name] = pod
	}
	taken := map[string]bool{}
	for _, s := range e.sandboxes {
		pod := byName[s.namespace+"/"+s.name]
		if pod == nil {
			// Ours may be older than the kubelet's.
			pod, err = e.client.CoreV1().Pods(s.namespace).Get(context.Background(), s.name, metav1.GetOptions{})
			if err != nil {
				continue
			}
		}
		taken[s.address] = true
		v.pods = append(v.pods, addressed{pod, s.address})
	}
	// What was there before this process was.
	for _, pod := range pods {
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		address := pod.Status.PodIP
		if !ended && !pod.Spec.HostNetwork && address != "" && !taken[address] {
			taken[address] = true
			v.pods = append(v.pods, addressed{pod, address})
		}
	}
	v.sort()
	return v, nil
}
