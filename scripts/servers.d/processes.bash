# shellcheck shell=bash
# Processes known by a file with their id and start time, so that only our own are ever signalled,
# and the small questions that tell whether a port answers.

# The start time in clock ticks since boot: with the id it names one process, ever.
start_time() {
    local line
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name in brackets may hold blanks: count from behind it.
    read -ra line <<<"${line##*) }"
    # A zombie has ended, whoever has not fetched its result yet.
    [ "${line[0]}" != Z ] || return 1
    echo "${line[19]}"
}

# start_process NAME COMMAND…: in a session of its own, so that it outlives the shell that ran us.
start_process() {
    local name=$1 pid
    shift
    [ ! -f "$home/$name.log" ] || mv "$home/$name.log" "$home/$name.log.1"
    setsid nohup "$@" >"$home/$name.log" 2>&1 </dev/null 7>&- 9>&- &
    pid=$!
    echo "$pid $(start_time "$pid")" >"$home/pids/$name"
}

# The id of the process if it is alive and the one that we started.
process_id() {
    local pid started
    read -r pid started 2>/dev/null <"$home/pids/$1" || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] || return 1
    echo "$pid"
}

all_running() {
    local name
    for name in "${processes[@]}"; do
        process_id "$name" >/dev/null || return 1
    done
}

descendants() {
    local child
    # shellcheck disable=SC2013 # the ids stand on one line
    for child in $(cat "/proc/$1/task/"*/children 2>/dev/null); do
        echo "$child"
        descendants "$child"
    done
}

# Servers of several processes put the children into sessions of their own: each is signalled.
signal_all() {
    local signal=$1 name pid
    for name in "${processes[@]}"; do
        pid=$(process_id "$name") || fail_loudly "$server is not running"
        # shellcheck disable=SC2046
        kill -s "$signal" "$pid" $(descendants "$pid")
    done
}

fail_loudly() {
    echo "$*" >&2
    exit 1
}

stop_processes() {
    local index name
    for ((index = ${#processes[@]} - 1; index >= 0; index--)); do
        name=${processes[index]}
        stop_process "$name"
        rm -f "$home/pids/$name"
    done
}

stop_process() {
    local name=$1 pid end=$((SECONDS + 30)) family
    pid=$(process_id "$name") || return 0
    family=$(descendants "$pid")
    # A paused one does not hear the request to stop.
    # shellcheck disable=SC2086
    kill -s CONT "$pid" $family 2>/dev/null || true
    kill -s "$stop_signal" "$pid" 2>/dev/null || true
    while process_id "$name" >/dev/null; do
        if [ $SECONDS -ge $end ]; then
            # shellcheck disable=SC2086
            kill -s KILL "$pid" $family 2>/dev/null || true
            end=$((SECONDS + 30))
        fi
        sleep 0.1
    done
}

port_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# talk PORT TEXT: sends the text, prints what comes back within 5 s of silence or until the end.
talk() {
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf '%b' "$2" >&3
        # The last line may come without its end.
        while IFS= read -r -t 5 line <&3 || [ -n "$line" ]; do
            printf '%s\n' "${line%$'\r'}"
        done
    ) 2>/dev/null || true
}

# http PORT METHOD PATH [BODY]: the status line and what follows.
http() {
    local port=$1 method=$2 path=$3 body=${4:-} request
    request="$method $path HTTP/1.0\r\nHost: 127.0.0.1:$port\r\nConnection: close\r\n"
    if [ -n "${http_user:-}" ]; then
        request+="Authorization: Basic $(printf %s "$http_user" | base64 -w0)\r\n"
    fi
    if [ -n "$body" ]; then
        request+="Content-Type: application/json\r\nContent-Length: ${#body}\r\n"
    fi
    talk "$port" "$request\r\n$body"
}
