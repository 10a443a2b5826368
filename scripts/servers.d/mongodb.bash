# shellcheck shell=bash
# MongoDB itself, a replica set of one: as a container, or one that the environment names.

version="MongoDB 8.0"
processes=()
ports=("$(port_of mongodb 27117)")
not_to_be_had="no package registry has it: run a container engine or set DBMANAGER_TEST_MONGODB_URL"

environment() {
    echo "DBMANAGER_TEST_MONGODB_URL=mongodb://root:$password@127.0.0.1:${ports[0]}/?directConnection=true"
}
