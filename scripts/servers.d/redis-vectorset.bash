# shellcheck shell=bash
# Redis as it comes without modules: vector sets only, and nothing kept over a restart.

# shellcheck source=scripts/servers.d/redis.bash
source "$parts/redis.bash"

version="Redis 8.2.3 without modules"
ports=("$(port_of redis-vectorset 16393)")
with_query_engine=no

environment() {
    echo "DBMANAGER_TEST_REDIS_VECTORSET_URL=redis://:$password@127.0.0.1:${ports[0]}/0"
}
