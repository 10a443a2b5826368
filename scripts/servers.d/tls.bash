# shellcheck shell=bash
# TLS in front of the servers whose builds have none: stunnel, one port for each of them, with
# PostgreSQL's own way of asking for TLS on its port.

# shellcheck source=scripts/servers.d/certificates.bash
source "$parts/certificates.bash"

version="stunnel (Debian)"
behind=(postgres redis redis-vectorset chromadb ferretdb)
ports=("$(port_of postgres 15420 _TLS)" "$(port_of redis 16392 _TLS)"
    "$(port_of redis-vectorset 16394 _TLS)" "$(port_of chromadb 18001 _TLS)"
    "$(port_of ferretdb 27030 _TLS)")

setup() {
    need stunnel4 stunnel4
    ensure_certificates
}

start() {
    need stunnel4 stunnel4
    ensure_certificates
    configuration >"$home/stunnel.conf"
    start_process tls stunnel4 "$home/stunnel.conf"
}

configuration() {
    local index name
    cat <<CONF
foreground = yes
pid =
debug = warning
cert = $certificates/server.pem
key = $certificates/server.key
CONF
    for index in "${!behind[@]}"; do
        name=${behind[index]}
        printf '[%s]\naccept = 127.0.0.1:%s\nconnect = 127.0.0.1:%s\n' "$name" "${ports[index]}" \
            "$(in_server "$name" first_port)"
        [ "$name" != postgres ] || echo "protocol = pgsql"
    done
}

ready() {
    local port
    for port in "${ports[@]:1}"; do
        port_open "$port" || return 1
    done
    openssl s_client -connect "127.0.0.1:${ports[1]}" -CAfile "$certificates/ca.pem" \
        -verify_return_error -verify_hostname localhost </dev/null >/dev/null 2>&1
}

environment() {
    echo "DBMANAGER_TEST_TLS_CA=$certificates/ca.pem"
    echo "DBMANAGER_TEST_TLS_OTHER_CA=$certificates/other-ca.pem"
    local index name
    for index in "${!behind[@]}"; do
        name=${behind[index]}
        ! in_server "$name" is_up || "${name//-/_}_url" "localhost:${ports[index]}"
    done
}

postgres_url() {
    echo "DBMANAGER_TEST_POSTGRES_TLS_URL=postgres://postgres:$password@$1/postgres"
}

redis_url() {
    echo "DBMANAGER_TEST_REDIS_TLS_URL=rediss://:$password@$1/0"
}

redis_vectorset_url() {
    echo "DBMANAGER_TEST_REDIS_VECTORSET_TLS_URL=rediss://:$password@$1/0"
}

chromadb_url() {
    echo "DBMANAGER_TEST_CHROMADB_TLS_URL=https://$1"
}

ferretdb_url() {
    echo "DBMANAGER_TEST_FERRETDB_TLS_URL=mongodb://postgres:$password@$1/?tls=true"
}
