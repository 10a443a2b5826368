# shellcheck shell=bash
# FerretDB: MongoDB's wire protocol on PostgreSQL with DocumentDB. It is not MongoDB: transactions
# are accepted and not honoured, roles are not enforced. FerretDB is built from its Go module; its
# PostgreSQL is of Debian's unstable release, whose packages cannot be pinned, in a root of its own.

version="FerretDB 2.7.0"
ports=("$(port_of ferretdb 27029)" "$(port_of ferretdb 27028 _DEBUG)" "$(port_of ferretdb 25433 _POSTGRES)")
processes=(postgres ferretdb)
unstable=$home/software/root
bin=/usr/lib/postgresql/18/bin
inside=/var/lib/postgresql/test

setup() {
    machine_fits
    [ "$(id -u)" = 0 ] || fail "a root of Debian's unstable release is made and entered by root only"
    need go golang-go
    need mmdebstrap mmdebstrap
    need gcc gcc libc6-dev
    GOBIN=$home/software GOFLAGS='' nice -n 15 go install github.com/FerretDB/FerretDB/v2/cmd/ferretdb@v2.7.0 ||
        fail "FerretDB could not be built (needs Go 1.25 or newer, or one that fetches it)"
    local mirror
    mirror=$(debian_mirror)
    # The release file of the mirror in use may be an old one.
    nice -n 10 mmdebstrap --quiet --variant=minbase --mode=root \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --include=postgresql-18,postgresql-18-documentdb sid "$unstable" ${mirror:+"$mirror"} ||
        fail "Debian's unstable release did not install"
}

# Where this machine's own apt gets Debian's packages.
debian_mirror() {
    # shellcheck disable=SC2016 # apt fills these in
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Identifier: Packages' |
        sed -n 's/^Debian \([^ ]*\)$/\1/p' | head -n 1
}

in_root() {
    chroot --userspec=postgres:postgres "$unstable" "$@"
}

start() {
    if [ ! -e "$data" ]; then
        # The data are inside the root; this directory only says that they are there.
        rm -rf "$unstable$inside"
        in_root "$bin/initdb" -D "$inside" -U postgres -A trust -E UTF8 --locale=C.UTF-8
        mkdir "$data"
    fi
    start_process postgres chroot --userspec=postgres:postgres "$unstable" "$bin/postgres" -D "$inside" \
        -c listen_addresses=127.0.0.1 -p "${ports[2]}" -c unix_socket_directories= \
        -c dynamic_shared_memory_type=mmap -c shared_buffers=64MB -c fsync=off \
        -c shared_preload_libraries=pg_cron,pg_documentdb_core,pg_documentdb \
        -c cron.database_name=postgres
    local end=$((SECONDS + 60))
    until ask 'SELECT 1' >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "its PostgreSQL does not answer: $(last_words)"
        sleep 0.2
    done
    ask "ALTER ROLE postgres PASSWORD '$password'" 'CREATE EXTENSION IF NOT EXISTS documentdb CASCADE'
    mkdir -p "$home/state"
    start_process ferretdb env \
        FERRETDB_POSTGRESQL_URL="postgres://postgres:$password@127.0.0.1:${ports[2]}/postgres" \
        "$home/software/ferretdb" --state-dir="$home/state" --listen-addr="127.0.0.1:${ports[0]}" \
        --debug-addr="127.0.0.1:${ports[1]}" --telemetry=disable --log-level=WARN
}

ask() {
    local statements=() statement
    for statement in "$@"; do
        statements+=(-c "$statement")
    done
    in_root "$bin/psql" -X -h 127.0.0.1 -p "${ports[2]}" -U postgres -q "${statements[@]}" </dev/null
}

ready() {
    http "${ports[1]}" GET /debug/readyz | head -n 1 | grep -q ' 200 '
}

environment() {
    echo "DBMANAGER_TEST_FERRETDB_URL=mongodb://postgres:$password@127.0.0.1:${ports[0]}/"
}
