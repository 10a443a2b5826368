# shellcheck shell=bash
# PostgreSQL with pgvector, AGE and a BM25 index, from a wheel that carries the whole server.
# Its build has no TLS: that is in front of it, see tls.bash.

version="PostgreSQL 18.6"
ports=("$(port_of postgres 15419)")
stop_signal=INT
bin=$home/software/pgserver/pginstall/bin

setup() {
    unpack_wheels "$parts/lock/postgres.lock" "$home/software"
    chmod +x "$bin"/*
}

start() {
    local words drop owner
    words=$(unprivileged "$bin")
    read -ra drop <<<"$words"
    if [ ! -e "$data/PG_VERSION" ]; then
        rm -rf "$data"
        mkdir -m 700 "$data"
    fi
    owner=$(id -u):$(id -g)
    [ "${drop[0]:-}" != setpriv ] || owner=nobody:nogroup
    # Kept data may come from a run that was another user.
    chown -R "$owner" "$data"
    if [ ! -e "$data/PG_VERSION" ]; then
        (umask 077 && echo "$password" >"$home/initial-password")
        chown "$owner" "$home/initial-password"
        "${drop[@]}" "$bin/initdb" -D "$data" -U postgres -A scram-sha-256 -E UTF8 \
            --locale=C.UTF-8 --pwfile="$home/initial-password"
        rm "$home/initial-password"
    fi
    start_process postgres "${drop[@]}" "$bin/postgres" -D "$data" -p "${ports[0]}" \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 \
        -c shared_preload_libraries=age,pg_textsearch
}

ready() {
    PGPASSWORD=$password PGCONNECT_TIMEOUT=3 "$bin/psql" -X -h 127.0.0.1 -p "${ports[0]}" \
        -U postgres -d postgres -Atqc 'SELECT 1' 2>/dev/null | grep -qx 1
}

environment() {
    echo "DBMANAGER_TEST_POSTGRES_URL=postgres://postgres:$password@127.0.0.1:${ports[0]}/postgres"
}
