package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

// plugin is the CNI plugin: it tells the enforcer of a pod that comes or goes, and waits until the rules are there.
func plugin() {
	if err := tell(os.Getenv("CNI_COMMAND"), os.Getenv("CNI_CONTAINERID"), os.Getenv("CNI_ARGS")); err != nil {
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "1.0.0", "code": 100, "msg": err.Error()})
		os.Exit(1)
	}
}

func tell(command, sandbox, arguments string) error {
	var config struct {
		Socket     string          `json:"socket"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if command == "VERSION" {
		_, err = fmt.Println(`{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}`)
		return err
	}
	if err := json.Unmarshal(input, &config); err != nil {
		return err
	}
	request := ""
	switch command {
	case "ADD":
		var result struct {
			IPs []struct{ Address string } `json:"ips"`
		}
		if err := json.Unmarshal(config.PrevResult, &result); err != nil {
			return err
		}
		if len(result.IPs) != 1 {
			return fmt.Errorf("%d addresses where one is expected", len(result.IPs))
		}
		address, _, err := net.ParseCIDR(result.IPs[0].Address)
		if err != nil {
			return err
		}
		values := map[string]string{}
		for _, pair := range strings.Split(arguments, ";") {
			key, value, _ := strings.Cut(pair, "=")
			values[key] = value
		}
		request = fmt.Sprintf("ADD %s %s %s %s", sandbox, values["K8S_POD_NAMESPACE"], values["K8S_POD_NAME"], address)
	case "DEL":
		request = "DEL " + sandbox
	default:
		return nil
	}
	connection, err := net.DialTimeout("unix", config.Socket, time.Second)
	if err != nil && command == "DEL" {
		// Nobody enforces any more, so there is nothing to undo.
		return nil
	}
	if err != nil {
		return err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(connection, request); err != nil {
		return err
	}
	answer, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	if answer = strings.TrimSpace(answer); answer != "ok" {
		return fmt.Errorf("the policy enforcer says: %s", answer)
	}
	if command == "ADD" {
		_, err = os.Stdout.Write(config.PrevResult)
	}
	return err
}

// serve answers the plugin.
func (e *enforcer) serve(ctx context.Context, listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			if ctx.Err() == nil {
				log.Fatal(err)
			}
			return
		}
		go func() {
			defer connection.Close()
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil {
				return
			}
			answer := "ok"
			if err := e.handle(strings.Fields(line)); err != nil {
				log.Print(err)
				answer = strings.ReplaceAll(err.Error(), "\n", " ")
			}
			fmt.Fprintln(connection, answer)
		}()
	}
}

func (e *enforcer) handle(words []string) error {
	switch {
	case len(words) == 5 && words[0] == "ADD":
		e.mutex.Lock()
		e.sandboxes[words[1]] = sandbox{words[2], words[3], words[4]}
		e.mutex.Unlock()
		return e.apply()
	case len(words) == 2 && words[0] == "DEL":
		e.mutex.Lock()
		delete(e.sandboxes, words[1])
		e.mutex.Unlock()
		return e.apply()
	}
	return fmt.Errorf("not understood: %q", words)
}
