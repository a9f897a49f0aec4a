# The cluster's certificate authority and who it vouches for. Sourced by scripts/cluster, which sets `pki`.
# shellcheck shell=bash

new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

make_authority() {
    new_key "$pki/ca.key"
    openssl req -x509 -new -key "$pki/ca.key" -subj /CN=docker-mcp-cluster -days 365 -out "$pki/ca.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    # Signs and checks the tokens of service accounts.
    new_key "$pki/service-account.key"
    openssl pkey -in "$pki/service-account.key" -pubout -out "$pki/service-account.pub"
}

# certificate NAME SUBJECT [ALTERNATIVE-NAMES]: for a client, and for a server if it has alternative names.
certificate() {
    local name=$1 subject=$2 names=${3:-} usage=clientAuth
    if [[ -n $names ]]; then usage=serverAuth,clientAuth; fi
    new_key "$pki/$name.key"
    openssl req -new -key "$pki/$name.key" -subj "$subject" |
        openssl x509 -req -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -days 365 -out "$pki/$name.crt" -extfile <(
            echo "extendedKeyUsage=$usage"
            if [[ -n $names ]]; then echo "subjectAltName=$names"; fi
        ) 2>/dev/null
}

# client NAME SUBJECT: a certificate, and the kubeconfig file of who has it.
client() {
    certificate "$1" "$2"
    cat >"$state/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: docker-mcp
  cluster:
    server: $api_server
    certificate-authority-data: $(base64 -w 0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w 0 "$pki/$1.crt")
    client-key-data: $(base64 -w 0 "$pki/$1.key")
contexts:
- name: docker-mcp
  context: {cluster: docker-mcp, user: $1}
current-context: docker-mcp
YAML
}
