# shellcheck shell=bash
# The containers of deploy/compose.yaml. Never tried where this was written: no engine ran there.

route() {
    if [ -n "${DBMANAGER_SERVERS_ROUTE:-}" ]; then
        echo "$DBMANAGER_SERVERS_ROUTE"
    elif [ -n "$(engine)" ]; then
        echo compose
    else
        echo registry
    fi
}

# The client whose engine answers and that has compose: a client alone is on many machines.
engine() {
    local name
    for name in docker podman; do
        if timeout 20 "$name" info >/dev/null 2>&1 && "$name" compose version >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
}

compose() {
    local name
    name=$(engine)
    [ -n "$name" ] || fail "no container engine with compose runs"
    DBMANAGER_SERVERS_PASSWORD=$password "$name" compose --project-name dbmanager-test \
        --file "$root/deploy/compose.yaml" "$@"
}

in_compose() {
    grep -q "^  $server:\$" "$root/deploy/compose.yaml"
}

compose_mark() {
    cat "$home/pids/compose" 2>/dev/null || true
}

compose_up() {
    stop_processes
    if [ "${DBMANAGER_SERVERS_FRESH:-}" = 1 ]; then
        compose rm --force --stop --volumes "$server"
    fi
    echo "$server" >"$home/pids/compose"
    compose up --detach --wait --wait-timeout 300 "$server"
}

compose_running() {
    [ -n "$(compose ps --quiet --status running "$server" 2>/dev/null)" ]
}

compose_down() {
    compose stop "$server"
    rm -f "$home/pids/compose"
}
