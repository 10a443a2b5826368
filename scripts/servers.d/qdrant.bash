# shellcheck shell=bash
# Qdrant: as a container, or one that the environment names.

version="Qdrant 1.18.3"
processes=()
ports=("$(port_of qdrant 16334)" "$(port_of qdrant 16333 _HTTP)")
not_to_be_had="no package registry has it: run a container engine or set DBMANAGER_TEST_QDRANT_URL"

environment() {
    echo "DBMANAGER_TEST_QDRANT_URL=http://127.0.0.1:${ports[0]}"
    echo "DBMANAGER_TEST_QDRANT_API_KEY=$password"
}
