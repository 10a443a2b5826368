# shellcheck shell=bash
# What all servers share. Each has a file of its own beside this one that sets
#   version        what is pinned, shown in the table
#   ports          the ports that it listens on, the client's first
#   processes      in the order in which they start (default: one, of the server's name)
# and defines
#   setup          puts the software into $home/software; not called again for the same version
#   start          starts the processes with `start_process`
#   ready          0 when a client would be served: a real question, answered
#   environment    NAME=value lines for the live tests
# They may use $home, $data, $password, $parts and the functions of the files beside them.

servers_dir=${DBMANAGER_SERVERS_DIR:-$root/target/servers}
mkdir -p "$servers_dir"
servers_dir=$(cd "$servers_dir" && pwd)
readonly servers_dir
umask 022

# shellcheck source=scripts/servers.d/processes.bash
source "$parts/processes.bash"
# shellcheck source=scripts/servers.d/install.bash
source "$parts/install.bash"
# shellcheck source=scripts/servers.d/compose.bash
source "$parts/compose.bash"

# One password for every server of this directory: they hold test data and listen on loopback.
ensure_password() {
    local file=$servers_dir/password
    (
        flock 8
        if [ ! -s "$file" ]; then
            umask 077
            od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$file"
        fi
    ) 8>"$servers_dir/password.lock"
    password=$(<"$file")
}

# port_of SERVER DEFAULT [SUFFIX]: the port in DBMANAGER_SERVERS_<SERVER><SUFFIX>_PORT.
port_of() {
    local variable=DBMANAGER_SERVERS_${1^^}${3:-}_PORT
    variable=${variable//-/_}
    echo "${!variable:-$2}"
}

load() {
    home=$servers_dir/$1
    data=$home/data
    password=$(cat "$servers_dir/password" 2>/dev/null || true)
    processes=("$1")
    ports=()
    ready_limit=120
    stop_signal=TERM
    not_to_be_had=
    # shellcheck source=/dev/null
    source "$parts/$1.bash"
}

fail() {
    mkdir -p "$home"
    echo "$*" >"$home/reason"
    exit 1
}

why() {
    cat "$home/reason" 2>/dev/null || echo "see $home/up.log"
}

# Runs in a shell of its own, errors end it; what it prints goes to up.log, but for the last line.
bring_up() {
    set -e
    mkdir -p "$home/pids"
    rm -f "$home/reason"
    exec 7>&1
    exec >>"$home/up.log" 2>&1
    # The lock is the server's own: two runs side by side start each server once.
    exec 9>"$home/lock"
    flock 9
    trap 'note_failure $?' EXIT
    local begin=$SECONDS
    echo "== up $(date -u +%FT%TZ)"
    if by_environment; then
        echo "$server: named by the environment" >&7
        return
    fi
    if [ "$(route)" = compose ] && in_compose; then
        compose_up
    else
        registry_up
    fi
    rm -f "$home/reason"
    printf '%-16s %-34s %-18s %4d s\n' "$server" "$version" "${ports[*]:-(files)}" $((SECONDS - begin)) >&7
}

note_failure() {
    [ "$1" = 0 ] || [ -s "$home/reason" ] ||
        echo "$(tail -n 3 "$home/up.log" | tr '\n' ' ') (see $home/up.log)" >"$home/reason"
}

registry_up() {
    [ -z "$not_to_be_had" ] || fail "$not_to_be_had"
    if [ "$(cat "$home/set-up" 2>/dev/null)" != "$version" ]; then
        rm -rf "$home/set-up" "$home/software"
        mkdir -p "$home/software"
        setup
        echo "$version" >"$home/set-up"
    fi
    [ ${#processes[@]} -gt 0 ] || return 0
    if [ "${DBMANAGER_SERVERS_FRESH:-}" = 1 ]; then
        stop_processes
        rm -rf "$data"
    fi
    if ! all_running; then
        stop_processes
        local port
        for port in "${ports[@]}"; do
            ! port_open "$port" || fail "port $port is taken by another process"
        done
        start
    fi
    wait_until_ready
}

wait_until_ready() {
    local end=$((SECONDS + ready_limit))
    until ready; do
        all_running || fail "it stopped while it started: $(last_words)"
        [ $SECONDS -lt $end ] || fail "no answer within $ready_limit s: $(last_words)"
        sleep 0.2
    done
}

last_words() {
    tail -q -n 3 "$home"/*.log 2>/dev/null | tail -n 4 | tr '\n' ' '
}

# A server that the user runs already, named by the variable of the live tests.
by_environment() {
    local variable=DBMANAGER_TEST_${server^^}_URL
    variable=${variable//-/_}
    contains "$server" qdrant mongodb && [ -n "${!variable:-}" ]
}

is_up() {
    if [ -n "$(compose_mark)" ]; then
        compose_running
    elif [ ${#processes[@]} = 0 ]; then
        [ "$(cat "$home/set-up" 2>/dev/null)" = "$version" ]
    else
        all_running
    fi
}

bring_down() {
    if [ -n "$(compose_mark)" ]; then
        compose_down
    else
        stop_processes
    fi
}

show_status() {
    local state=down
    if by_environment; then
        state="by environment"
    elif is_up; then
        state=up
        [ ${#processes[@]} = 0 ] || ready || state="up, does not answer"
    elif [ -s "$home/reason" ]; then
        state="down: $(why)"
    fi
    printf '%-16s %-34s %-18s %s\n' "$server" "$version" "${ports[*]:-(files)}" "$state"
}

freeze() {
    if [ -n "$(compose_mark)" ]; then compose pause "$server"; else signal_all STOP; fi
}

thaw() {
    if [ -n "$(compose_mark)" ]; then compose unpause "$server"; else signal_all CONT; fi
}

print_environment() {
    local line
    { ! by_environment && is_up; } || return 0
    while IFS= read -r line; do
        printf 'export %s=%q\n' "${line%%=*}" "${line#*=}"
    done < <(environment)
}

first_port() {
    echo "${ports[0]}"
}
