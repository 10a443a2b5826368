# shellcheck shell=bash
# ChromaDB from its wheel, with everything that it needs pinned and checked.

version="ChromaDB 1.5.9"
ports=("$(port_of chromadb 18000)")

setup() {
    python_environment "$home/software"
    "$home/software/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        fail "the checked wheels are for Python 3.11, as Debian 12 has it"
    "$home/software/bin/pip" --disable-pip-version-check install --quiet --no-deps \
        --require-hashes --only-binary=:all: --requirement "$parts/lock/chromadb.lock"
}

start() {
    mkdir -p "$data"
    # It writes a log of its own into the working directory.
    cd "$home"
    start_process chromadb env ANONYMIZED_TELEMETRY=False "$home/software/bin/chroma" run \
        --host 127.0.0.1 --port "${ports[0]}" --path "$data"
}

ready() {
    http "${ports[0]}" GET /api/v2/heartbeat | grep -q nanosecond
}

environment() {
    echo "DBMANAGER_TEST_CHROMADB_URL=http://127.0.0.1:${ports[0]}"
}
